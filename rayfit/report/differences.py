"""Paired differences of arms as a table: a line per pair, a cell per score, the first score drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rayfit.columns import Column, column
from rayfit.records.sweep import Difference
from rayfit.records.values import Entry

# What a pair has in common.
_ABOUT = ("model", "domain", "decoding")


@dataclass(frozen=True)
class DifferenceCell:
    """A signed number with its interval, both empty where there is none; `is_clear`: the interval leaves out 0."""

    text: str = ""
    interval: str = ""
    is_clear: bool = False


@dataclass(frozen=True)
class IntervalBar:
    """An interval and its middle, drawn: where it begins, how wide it is and where the point lies, in percent of a cell."""

    left: float
    width: float
    point: float


@dataclass(frozen=True)
class DifferenceLine:
    """One pair: the labels of both, what it is about, a cell per score, how many contexts, and the first score drawn."""

    a: str
    b: str
    about: tuple[str, ...]
    cells: tuple[DifferenceCell, ...]
    contexts: str
    bar: IntervalBar | None


@dataclass(frozen=True)
class DifferenceTable:
    """The table. `about`: headings of the columns in which pairs differ besides their arms."""

    about: tuple[str, ...]
    scores: tuple[Column, ...]
    lines: tuple[DifferenceLine, ...]


def difference_table(found: Sequence[Difference]) -> DifferenceTable | None:
    """A line per pair of arms in the order given, with a cell per score; None where there are none.

    Each line's `bar` draws the first score's interval around 50, on one scale for all lines.
    """
    if not found:
        return None
    scores = list(dict.fromkeys(one.score for one in found))
    # What is the same in all lines is not repeated in each.
    about = [name for name in _ABOUT if len({getattr(one, name) for one in found}) > 1]
    pairs: dict[tuple[str | None, ...], list[Difference]] = {}
    for one in found:
        pairs.setdefault((one.a, one.b, *(getattr(one, name) for name in _ABOUT)), []).append(one)
    reach = max((_reach(one.entry) for one in found if one.score == scores[0]), default=0.0)
    return DifferenceTable(
        tuple(column(name).heading for name in about),
        tuple(map(column, scores)),
        tuple(_line(own, about, scores, reach) for own in pairs.values()),
    )


def _line(
    own: Sequence[Difference], about: Sequence[str], scores: Sequence[str], reach: float
) -> DifferenceLine:
    first = own[0]
    entries = {one.score: one.entry for one in own}
    return DifferenceLine(
        a=first.a,
        b=first.b,
        about=tuple(column(name).text(getattr(first, name)) for name in about),
        cells=tuple(
            _cell(entries[score], score) if score in entries else DifferenceCell() for score in scores
        ),
        contexts=next((str(entry.count) for entry in entries.values() if entry.count), ""),
        bar=_bar(entries[scores[0]], reach) if scores[0] in entries else None,
    )


def _reach(entry: Entry) -> float:
    """How far from 0 a number or an end of its interval lies."""
    return max((abs(end) for end in (entry.value, entry.low, entry.high) if end is not None), default=0.0)


def _cell(entry: Entry, score: str) -> DifferenceCell:
    if entry.value is None:
        return DifferenceCell()
    text = _signed(score, entry.value)
    if entry.low is None or entry.high is None:
        return DifferenceCell(text)
    interval = f"{_signed(score, entry.low)} to {_signed(score, entry.high)}"
    return DifferenceCell(text, interval, entry.low > 0 or entry.high < 0)


def _bar(entry: Entry, reach: float) -> IntervalBar | None:
    if reach <= 0 or entry.low is None or entry.value is None or entry.high is None:
        return None
    left, point, right = (round(50 + 47 * end / reach, 1) for end in (entry.low, entry.value, entry.high))
    return IntervalBar(left, round(right - left, 1), point)


def _signed(score: str, value: float) -> str:
    sign = "+" if value > 0 else "\u2212" if value < 0 else ""
    return sign + column(score).text(abs(value))
