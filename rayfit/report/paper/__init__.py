"""The published numbers of hyperfitting, to stand beside a sweep's own: a data file, and how it is read."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args

from rayfit.errors import RayfitError

Certainty = Literal["text", "second-hand", "read off a figure"]
SET_UP = "set-up"


@dataclass(frozen=True)
class PaperNumber:
    """One published number, made by others on other models and data, with how sure it is.

    `table`: the heading under which it is shown.
    `quantity`: name of the score or column of ours that it compares with, or a name of its own. `value` in `unit`; where
    only bounds are known, `low`, `high` or both; all None where the number is not known. `source`: table, figure or
    section of `work`. `certainty`: "text" is read in the running text or code, "second-hand" quoted by others from a
    table that could not be read, "read off a figure" digitised.
    """

    experiments: tuple[str, ...]
    work: str
    table: str
    quantity: str
    unit: str
    source: str
    certainty: Certainty
    model: str = ""
    who: str = ""
    decoding: str = ""
    setting: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    note: str = ""

    @property
    def is_known(self) -> bool:
        """Whether there is a value or a bound."""
        return (self.value, self.low, self.high) != (None, None, None)


@lru_cache
def paper_numbers(experiment: str | None = None) -> tuple[PaperNumber, ...]:
    """The numbers of one kind of sweep, or of all, in the order of the data file."""
    numbers = _read((Path(__file__).parent / "numbers.toml").read_text(encoding="utf-8"))
    return tuple(number for number in numbers if experiment is None or experiment in number.experiments)


def _read(text: str) -> list[PaperNumber]:
    found = []
    for group in tomllib.loads(text)["group"]:
        shared = {name: value for name, value in group.items() if name != "numbers"}
        for number in group["numbers"]:
            entry = {**shared, **number}
            if entry["certainty"] not in get_args(Certainty):
                raise RayfitError(
                    f"paper numbers: expected one of {get_args(Certainty)}; got {entry['certainty']!r}"
                )
            found.append(PaperNumber(**{**entry, "experiments": tuple(entry["experiments"])}))
    return found
