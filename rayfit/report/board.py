"""The one table of a sweep: a line per group of rows, its numbers with spread or interval, failures with their reason.

The terminal, Markdown, the report and MLflow's note draw it; which columns there are, what they are called and what stands
in their cells is decided here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rayfit.columns import COLUMNS, DASH, ORIGINAL, POOLED, TRAINED, TRUTH, WHO, Column, column, names
from rayfit.findings.groups import Cell, Group, grouped, spread_text
from rayfit.findings.labels import (
    decoding_of,
    follows,
    group_text,
    is_final,
    lengths_differ,
    phrase,
    varies,
    who_text,
)
from rayfit.records.sweep import Row, SweepRecord
from rayfit.report.figures import figure_columns
from rayfit.report.paper import paper_numbers

TTR = "ttr_last_96"


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


def sweep_board(
    record: SweepRecord, *, by_seed: bool = False, only_final: bool = False, with_paper: bool = True
) -> Board:
    """The table of a sweep's record: the scores that every table has, and those that are wanted of this sweep.

    `by_seed`: a line per row, seeds as columns where they vary, in place of means over seeds. `only_final`: without rows
    of weights that were kept along training. `with_paper`: with what the paper has of the experiment, to stand beside it.
    """
    rows = [row for row in record.rows if not only_final or row.update is None]
    return board(rows, wanted_columns(record, with_paper=with_paper), by_seed=by_seed)


def wanted_columns(record: SweepRecord, *, with_paper: bool = True) -> list[str]:
    """The scores that a sweep declares, that its figures show, and, `with_paper`, that the paper has of it."""
    published = paper_numbers(record.sweep_kind) if with_paper else ()
    shown = figure_columns(record.figures)
    return [*record.scores, *shown, *(number.quantity for number in published)]


def board(rows: Sequence[Row], wanted: Sequence[str], *, by_seed: bool = False) -> Board:
    """The table of these rows with the scores `wanted` beside those of every table, where any row has them."""
    trials = [row for row in rows if row.who == TRAINED]
    scores = [name for name in _scores(wanted) if any(row.value(name) is not None for row in rows)]
    described = names(lambda each: each.role == "declared" or (by_seed and each.role == "seed"))
    tell = [name for name in described if varies(_where_it_tells(column(name), rows, trials), name)]
    tell = [name for name in tell if not _is_said(column(name), tell, trials)]
    groups = [Group((row,)) for row in rows] if by_seed else grouped(rows)
    cells = (group.cell(TTR) for group in groups)
    longest = max((cell.value for cell in cells if cell is not None), default=0.0)
    headings = [name for name in tell if column(name).has_sections]
    columns = [column(name) for name in tell if name not in headings]
    shown, with_length = [column(name) for name in scores], lengths_differ(rows)
    sections = tuple(
        (heading, tuple(_line(group, columns, shown, longest, with_length) for group in members))
        for heading, members in _sections(groups, headings)
    )
    held = tuple(
        (column(name).title, _declared_text(trials[0], column(name), True))
        for name in described
        if trials and name not in tell and _is_held(trials, column(name))
    )
    several = any(len(group.rows) > 1 for group in groups)
    return Board(tuple(columns), tuple(shown), sections, held, several)


def _scores(wanted: Sequence[str]) -> list[str]:
    """What every table has, with the scores that are wanted after what stands first."""
    first, last = names(lambda each: each.always == "first"), names(lambda each: each.always == "last")
    measured = (name for name in dict.fromkeys(wanted) if name in COLUMNS and column(name).role == "measured")
    return [*first, *(name for name in measured if name not in (*first, *last)), *last]


def _where_it_tells(shown: Column, rows: Sequence[Row], trials: Sequence[Row]) -> Sequence[Row]:
    """What is of a training tells trials apart; the rest also tells rows of the original apart."""
    return trials if shown.is_of_weights else [row for row in rows if row.who != TRUTH]


def _is_said(shown: Column, tell: Sequence[str], trials: Sequence[Row]) -> bool:
    return any(other in tell and follows(trials, shown.name, [other]) for other in shown.said_by)


def _is_held(trials: Sequence[Row], shown: Column) -> bool:
    """Whether all trials have one value that is worth saying: no rerun is none."""
    values = {row.value(shown.name) for row in trials}
    return len(values) == 1 and not values & {None, shown.usual} and shown.role == "declared"


def _sections(groups: Sequence[Group], headings: Sequence[str]) -> list[tuple[str, list[Group]]]:
    """Groups under what they have in common, in the order in which each value comes first; pooled domains last."""
    order = {name: list(dict.fromkeys(group.row.value(name) for group in groups)) for name in headings}
    for values in order.values():
        values.sort(key=lambda each: each == POOLED)
    found: dict[tuple[int, ...], list[Group]] = {}
    for group in groups:
        key = tuple(order[name].index(group.row.value(name)) for name in headings)
        found.setdefault(key, []).append(group)
    return [(phrase(found[key][0].row, headings), found[key]) for key in sorted(found)]


def _line(
    group: Group, tell: Sequence[Column], scores: Sequence[Column], longest: float, with_length: bool
) -> BoardLine:
    row, unfinished = group.row, group.unfinished
    trouble = ""
    if unfinished:
        states = " and ".join(sorted({one.status for one in unfinished}))
        count = f"{len(unfinished)} of {len(group.rows)} seeds " if len(group.rows) > 1 else ""
        reasons = dict.fromkeys(str(one.reason) for one in unfinished)
        trouble = f"{count}{states}: {'; '.join(reasons)}"
    missing = row.reason or "not measured for this row"
    cells = tuple(_board_cell(each, group.cell(each.name), longest, missing) for each in scores)
    return BoardLine(
        who=row.who,
        label=group_text(group.rows),
        declared=tuple(_declared_text(row, each, with_length) for each in tell),
        cells=cells,
        seeds=len(group.rows),
        trouble=trouble,
        failed=len(unfinished) == len(group.rows) and not any(cell.text for cell in cells),
    )


def _board_cell(shown: Column, cell: Cell | None, longest: float, missing: str) -> BoardCell:
    if cell is None:
        return BoardCell("", reason=missing)
    share = cell.value / longest if shown.name == TTR and longest > 0 else None
    # Training rows are no sample of anything, and a sum of seconds has no interval.
    below = "" if shown.is_of_weights and cell.spread is None else spread_text(shown, cell)
    return BoardCell(shown.text(cell.value), below, share)


def _declared_text(row: Row, shown: Column, with_length: bool) -> str:
    if is_final(row, shown.name):
        return "final"
    return shown.text(row.value(shown.name), with_length=with_length)


@dataclass(frozen=True)
class Headline:
    """One score in large: its column, and what the truth, the original and the trained have of it, as (who, name, text)."""

    column: Column
    texts: tuple[tuple[str, str, str], ...]


def headlines(rows: Sequence[Row]) -> list[Headline]:
    """What is asked first: TTR, validation loss, entropy and overlap of each, under plain greedy decoding.

    Of the trials only the hyperfitted ones count, where there are any. Another decoding stands in where none is greedy.
    """
    decodings = [(row.decoding, made) for row in rows if (made := decoding_of(row)) is not None]
    chosen = [name for name, made in decodings if made.is_plain] or [name for name, _ in decodings]
    same = [row for row in rows if row.decoding in (None, *chosen[:1]) and row.update is None]
    trials = [row for row in same if row.who == TRAINED]
    shown = [row for row in trials if row.hyperfitted] or trials
    same = [*(row for row in same if row.who != TRAINED), *shown]
    words = {**WHO, TRAINED: who_text(shown[0]) if shown else ""}
    found = []
    for name in (TTR, "validation_loss", "entropy_nats", "longest_overlap_mean"):
        texts = tuple((who, words[who], text) for who in WHO if (text := _range_of(same, who, name)))
        if any(who == TRAINED for who, _, _ in texts):
            found.append(Headline(column(name), texts))
    return found


def _range_of(rows: Sequence[Row], who: str, name: str) -> str:
    if who == ORIGINAL and name == "longest_overlap_mean":
        # The original has no training rows: what it shares with a trial's rows stands in that trial's row.
        who, name = TRAINED, "original_longest_overlap_mean"
    return _range([row for row in rows if row.who == who], name)


def _range(rows: Sequence[Row], name: str) -> str:
    cells = [cell.value for group in grouped(rows) if (cell := group.cell(name)) is not None]
    texts = [column(name).text(number) for number in (min(cells), max(cells))] if cells else []
    return DASH.join(dict.fromkeys(texts))
