"""What a figure shows, as plain numbers: built from records by one module per kind, drawn or written by others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

Bounds: TypeAlias = tuple[float, float] | None


@dataclass(frozen=True)
class Look:
    """How something is told apart from the rest, for eyes that see colours and for those that do not."""

    label: str
    colour: str
    marker: str = "o"
    dash: str = "-"


@dataclass(frozen=True)
class Line:
    """Points of one look, in the order of x. `bounds`: an error bar per point. `singles`: (x, y) of single seeds.

    `hollow`: which points are of trials that did not end hyperfitted.
    `shift`: points (1/72 inch) by which it is drawn to the right, so that lines with the same x do not hide each other.
    """

    look: Look
    x: tuple[float, ...]
    y: tuple[float, ...]
    bounds: tuple[Bounds, ...] = ()
    singles: tuple[tuple[float, float], ...] = ()
    joined: bool = True
    shift: float = 0.0
    hollow: tuple[bool, ...] = ()


@dataclass(frozen=True)
class Level:
    """A horizontal line: a value that does not depend on x, with its interval."""

    look: Look
    y: float
    bounds: Bounds = None


@dataclass(frozen=True)
class Panel:
    """One pair of axes. `x_ticks`: (place, text) where ticks are given. `steps`: the lines are histograms' outlines."""

    title: str
    x_title: str
    y_title: str
    lines: tuple[Line, ...]
    levels: tuple[Level, ...] = ()
    x_scale: str = "linear"
    x_ticks: tuple[tuple[float, str], ...] = ()
    y_range: tuple[float, float] | None = None
    steps: bool = False


@dataclass(frozen=True)
class Bar:
    """One bar with its label and interval; `text` is its number as it is written."""

    look: Look
    label: str
    value: float
    text: str
    bounds: Bounds = None


@dataclass(frozen=True)
class Bars:
    """Horizontal bars, one under the other."""

    title: str
    x_title: str
    bars: tuple[Bar, ...]
    x_range: tuple[float, float] | None = None


@dataclass(frozen=True)
class Heat:
    """A matrix with a number in each cell, coloured from `low` to `high`; None where there is none."""

    title: str
    column_title: str
    row_labels: tuple[str, ...]
    column_labels: tuple[str, ...]
    values: tuple[tuple[float | None, ...], ...]
    texts: tuple[tuple[str, ...], ...]
    notes: tuple[tuple[str, ...], ...]
    low: float
    high: float

    def shade(self, value: float) -> float:
        """Where a value lies between `low` and `high`, from 0 to 1."""
        span = self.high - self.low
        return 0.5 if span <= 0 else min(1.0, max(0.0, (value - self.low) / span))


@dataclass(frozen=True)
class Figure:
    """One figure: its panels side by side, or the reason why there are none."""

    kind: str
    title: str
    caption: str = ""
    panels: tuple[Panel | Bars | Heat, ...] = ()
    legend: tuple[Look, ...] = ()
    missing: str = field(default="")
