"""Where values of an axis stand: numbers by their size, words side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rayfit.report.labels import value_text


class Scale:
    """Where values of x stand: numbers by their size (in powers of two where they span much), words side by side."""

    def __init__(self, values: Sequence[Any]) -> None:
        present = list(dict.fromkeys(value for value in values if value is not None))
        self.words = any(isinstance(value, str | bool) for value in present)
        self.places = {value: float(place) for place, value in enumerate(present)} if self.words else {}
        numbers = [] if self.words else sorted(present)
        self.log = bool(numbers) and numbers[0] > 0 and numbers[-1] / numbers[0] >= 6
        self.ticks = (
            tuple((place, str(value)) for value, place in self.places.items())
            if self.words
            else tuple((value, value_text(value)) for value in _thinned(numbers, self.log))
        )

    def place(self, value: Any) -> float | None:
        return self.places.get(value) if self.words else value


def _thinned(numbers: list[float], log: bool, most: int = 9) -> list[float]:
    """At most `most` of the numbers, none so close to the one before that their labels would touch."""
    if len(numbers) <= most and log:
        return numbers
    span = (numbers[-1] - numbers[0]) if numbers else 0.0
    kept: list[float] = []
    for number in numbers:
        if not kept or log or number - kept[-1] >= span / most:
            kept.append(number)
    step = -(-len(kept) // most)
    return kept[::step] if kept else kept
