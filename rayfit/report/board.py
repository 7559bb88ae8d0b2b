"""The report's table: a line per group of rows, mean and spread or interval in each cell, failures with their reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rayfit.report.columns import CORE, DASH, Column, column, number_text
from rayfit.report.figures.heat import spread_text
from rayfit.report.groups import Group, grouped
from rayfit.report.labels import (
    DECLARED,
    WHO,
    decoding_text,
    follows,
    group_text,
    lengths_differ,
    phrase,
    who_text,
)
from rayfit.report.rows import Row

# Numbers of a trial that are no score and vary with what is declared.
_OF_TRIALS = (*(name for name in DECLARED if name not in ("domain", "decoding")), "trainable_parameters")
_LAST = ("domain", "decoding")
# Where these vary, the lines stand under headings instead of repeating them.
_HEADINGS = ("model", "domain")
# Without an interval: a sum of seconds has none, and training rows are no sample of anything.
_PLAIN = ("minutes", "train_loss", "train_accuracy")


@dataclass(frozen=True)
class BoardCell:
    """A number as text, what goes below it, how long its bar is (share of the column's largest; None: no bar), and why
    there is no number."""

    text: str
    below: str = ""
    bar: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class BoardLine:
    """One line: whose texts, declared values, numbers; `trouble` says how many seeds failed and why."""

    who: str
    label: str
    declared: tuple[str, ...]
    cells: tuple[BoardCell, ...]
    seeds: int
    trouble: str
    failed: bool


@dataclass(frozen=True)
class Board:
    """The table, and what all its trials share. `sections`: (heading, lines), in the order of models, then domains."""

    declared: tuple[Column, ...]
    scores: tuple[Column, ...]
    sections: tuple[tuple[str, tuple[BoardLine, ...]], ...]
    held: tuple[tuple[str, str], ...]
    several_seeds: bool

    @property
    def lines(self) -> tuple[BoardLine, ...]:
        """The lines of all sections."""
        return tuple(line for _, lines in self.sections for line in lines)

    @property
    def width(self) -> int:
        """Columns in all."""
        return 1 + len(self.declared) + len(self.scores) + self.several_seeds


def board(rows: Sequence[Row], wanted: Sequence[str], bar: str = "ttr_last_96") -> Board:
    """The table of a sweep's rows with the core scores and those `wanted`, where any row has them.

    `bar`: the score whose cells carry a bar.
    """
    trials = [row for row in rows if row["who"] == "trained"]
    scores = [name for name in _ordered_scores(wanted) if any(row.get(name) is not None for row in rows)]
    if any(row.get("minutes") is not None for row in rows):
        scores.append("minutes")
    tell = [name for name in _OF_TRIALS if len({row.get(name) for row in trials}) > 1]
    tell += [name for name in _LAST if len({row.get(name) for row in rows if row["who"] != "truth"}) > 1]
    tell = [name for name in tell if not _is_said(name, tell, trials)]
    groups = grouped(rows)
    longest = max((cell.value for group in groups if (cell := group.cell(bar))), default=0.0)
    with_length = lengths_differ(rows)
    columns = [name for name in tell if name not in _HEADINGS]
    sections = tuple(
        (heading, tuple(_line(group, columns, scores, bar, longest, with_length) for group in members))
        for heading, members in _sections(groups, [name for name in _HEADINGS if name in tell])
    )
    held = tuple(
        (column(name).title, _declared_text(trials[0], name, True))
        for name in (*_OF_TRIALS, *_LAST)
        if trials and name not in tell and _is_held(trials, name)
    )
    return Board(
        tuple(map(column, columns)),
        tuple(map(column, scores)),
        sections,
        held,
        any(len(group.rows) > 1 for group in groups),
    )


# Columns that need not be shown beside one that they follow from.
_SAID_BY = {
    "adapter": ("arm",),
    "repeat": ("arm",),
    "trainable_parameters": ("model",),
}


def _is_said(name: str, tell: Sequence[str], trials: Sequence[Row]) -> bool:
    if name == "updates":
        # Of weights kept along training both say the same, but for the final ones.
        return "update" in tell
    return any(other in tell and follows(trials, name, [other]) for other in _SAID_BY.get(name, ()))


def _is_held(trials: Sequence[Row], name: str) -> bool:
    """Whether all trials have one value that is worth saying: no rerun is none."""
    values = {row.get(name) for row in trials}
    return len(values) == 1 and values != {None} and (name, values) != ("repeat", {0})


def _sections(groups: Sequence[Group], headings: Sequence[str]) -> list[tuple[str, list[Group]]]:
    """Groups under what they have in common, in the order in which each value comes first; pooled domains last."""
    order = {
        name: list(dict.fromkeys(group.row.get(name) for group in groups)) for name in ("model", "domain")
    }
    order["domain"].sort(key=lambda domain: domain == "pooled")
    found: dict[tuple[int, ...], list[Group]] = {}
    for group in groups:
        key = tuple(order[name].index(group.row.get(name)) for name in headings)
        found.setdefault(key, []).append(group)
    return [(phrase(found[key][0].row, headings), found[key]) for key in sorted(found)]


def _ordered_scores(wanted: Sequence[str]) -> list[str]:
    """The core scores with those wanted after their kin: text scores beside text scores."""
    extra = [name for name in dict.fromkeys(wanted) if name not in CORE and name not in _OF_TRIALS]
    place = CORE.index("ttr_last_96") + 1
    return [*CORE[:place], *extra, *CORE[place:]]


def _line(
    group: Group, tell: Sequence[str], scores: Sequence[str], bar: str, longest: float, with_length: bool
) -> BoardLine:
    row, unfinished = group.row, group.unfinished
    failed = len(unfinished) == len(group.rows)
    trouble = ""
    if unfinished:
        states = " and ".join(sorted({one["status"] for one in unfinished}))
        count = f"{len(unfinished)} of {len(group.rows)} seeds " if len(group.rows) > 1 else ""
        trouble = f"{count}{states}: {'; '.join(dict.fromkeys(str(one['reason']) for one in unfinished))}"
    cells = []
    for name in scores:
        cell = group.cell(name)
        if cell is None:
            cells.append(BoardCell("", reason=str(row.get("reason") or "not measured for this row")))
            continue
        share = cell.value / longest if name == bar and longest > 0 else None
        below = "" if name in _PLAIN and cell.spread is None else spread_text(name, cell)
        cells.append(BoardCell(number_text(name, cell.value), below, share))
    declared = tuple(_declared_text(row, name, with_length) for name in tell)
    label = group_text(group.rows) if row["who"] == "trained" else WHO[row["who"]]
    return BoardLine(row["who"], label, declared, tuple(cells), len(group.rows), trouble, failed)


def _declared_text(row: Row, name: str, with_length: bool) -> str:
    value = row.get(name)
    if name == "decoding":
        return decoding_text(value, with_length=with_length)
    if name == "update" and value is None and row["who"] == "trained":
        return "final"
    return "" if value is None else number_text(name, value)


@dataclass(frozen=True)
class Headline:
    """One score in large: its column, and what the truth, the original and the trained have of it."""

    column: Column
    texts: tuple[tuple[str, str, str], ...]


def headlines(rows: Sequence[Row]) -> list[Headline]:
    """What is asked first: TTR, validation loss, entropy and overlap of each, under plain greedy decoding.

    Of the trials only the hyperfitted ones count, where there are any. Another decoding stands in where none is greedy.
    """
    decodings = [row["decoding"] for row in rows if row["decoding"]]
    plain = [name for name in decodings if name.startswith("greedy") and "block" not in name] or decodings
    same = [row for row in rows if row["decoding"] in (None, *plain[:1]) and row.get("update") is None]
    trials = [row for row in same if row["who"] == "trained"]
    shown = [row for row in trials if row.get("hyperfitted")] or trials
    same = [*(row for row in same if row["who"] != "trained"), *shown]
    names = {**WHO, "trained": who_text(shown[0]) if shown else ""}
    found = []
    for name in ("ttr_last_96", "validation_loss", "entropy_nats", "longest_overlap_mean"):
        texts = tuple((who, names[who], text) for who in WHO if (text := _range_of(same, who, name)))
        if any(who == "trained" for who, _, _ in texts):
            found.append(Headline(column(name), texts))
    return found


def _range_of(rows: Sequence[Row], who: str, name: str) -> str:
    if who == "original" and name == "longest_overlap_mean":
        # The original has no training rows: what it shares with a trial's rows stands in that trial's row.
        who, name = "trained", "original_longest_overlap_mean"
    return _range([row for row in rows if row["who"] == who], name)


def _range(rows: Sequence[Row], name: str) -> str:
    cells = [cell.value for group in grouped(rows) if (cell := group.cell(name)) is not None]
    texts = [number_text(name, value) for value in (min(cells), max(cells))] if cells else []
    return DASH.join(dict.fromkeys(texts))
