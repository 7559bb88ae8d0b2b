"""Rows that differ in nothing but seeds, taken together: mean and spread over seeds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from rayfit.columns import DASH, Column, column, telling_columns
from rayfit.records.sweep import Row


@dataclass(frozen=True)
class Cell:
    """One number of a group.

    `value`: the mean over seeds. `low`, `high`: the 95% interval over contexts, where there is one seed and an interval.
    `spread`: the sample standard deviation over seeds, where there are several. `singles`: each seed's own value.
    """

    value: float
    low: float | None
    high: float | None
    spread: float | None
    singles: tuple[float, ...]

    @property
    def bounds(self) -> tuple[float, float] | None:
        """What an error bar spans: mean plus and minus the spread over seeds, else the interval over contexts."""
        if self.spread is not None:
            return self.value - self.spread, self.value + self.spread
        return None if self.low is None or self.high is None else (self.low, self.high)


@dataclass(frozen=True)
class Group:
    """Rows that differ in seeds only. `row`, the first finished one, stands for what they share."""

    rows: tuple[Row, ...]

    @property
    def row(self) -> Row:
        """The row that stands for the group."""
        return next((row for row in self.rows if row.is_finished), self.rows[0])

    @property
    def unfinished(self) -> tuple[Row, ...]:
        """Rows that failed or are pending."""
        return tuple(row for row in self.rows if not row.is_finished)

    def cell(self, name: str) -> Cell | None:
        """The group's number of a column; None where no row has one.

        Of rows that did not finish the scores that they have count, for those are of weights that are there.
        """
        measured = [
            row
            for row in self.rows
            if row.value(name) is not None and (row.is_finished or name in row.scores)
        ]
        if not measured:
            return None
        values = tuple(float(row.value(name)) for row in measured)
        low = high = spread = None
        if len(values) > 1:
            spread = statistics.stdev(values)
        else:
            low, high = measured[0].bounds(name) or (None, None)
        return Cell(statistics.fmean(values), low, high, spread, values)


def grouped(rows: Sequence[Row]) -> list[Group]:
    """Groups in the order of their first rows: equal `who` and declared columns, any seeds.

    Trials that stop at a training loss do not share their number of updates, which is then no part of what is equal.
    """
    columns = telling_columns()
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        stops = row.stop_at_train_loss is not None
        names = [name for name in columns if not (stops and column(name).set_by_stop)]
        groups.setdefault((row.who, *(row.value(name) for name in names)), []).append(row)
    return [Group(tuple(members)) for members in groups.values()]


def spread_text(shown: Column, cell: Cell) -> str:
    """What goes below a mean: its spread over seeds, or its interval over contexts; empty where there is neither."""
    if cell.spread is not None:
        return f"± {shown.text(cell.spread)}"
    if cell.low is None or cell.high is None:
        return ""
    return f"{shown.text(cell.low)}{DASH}{shown.text(cell.high)}"
