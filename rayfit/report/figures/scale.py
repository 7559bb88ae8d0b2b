"""Where values of an axis stand: numbers by their size, words side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from rayfit.columns import value_text

_MOST_TICKS = 9


class Scale:
    """Where values of x stand: numbers by their size (logarithmic where they span much), words side by side.

    `measured` numbers, unlike declared ones, have no ticks of their own.
    """

    def __init__(self, values: Sequence[Any], *, measured: bool = False) -> None:
        present = list(dict.fromkeys(value for value in values if value is not None))
        self.words = any(isinstance(value, str | bool) for value in present)
        self.places = {value: float(place) for place, value in enumerate(present)} if self.words else {}
        numbers = [] if self.words else sorted(present)
        self.log = bool(numbers) and numbers[0] > 0 and numbers[-1] / numbers[0] >= 6
        self.ticks = (
            tuple((place, str(value)) for value, place in self.places.items())
            if self.words
            else tuple(
                (value, value_text(value)) for value in _thinned([] if measured else numbers, self.log)
            )
        )

    def place(self, value: Any) -> float | None:
        return self.places.get(value) if self.words else value


def _thinned(numbers: list[float], log: bool) -> list[float]:
    """A few of the numbers, none so close to the one before that their labels would touch."""
    places = [math.log(number) if log else number for number in numbers]
    kept: list[int] = []
    for i, place in enumerate(places):
        if not kept or place - places[kept[-1]] >= (places[-1] - places[0]) / _MOST_TICKS:
            kept.append(i)
    return [numbers[i] for i in kept]
