"""Training curves: losses, entropy and accuracy of every trial, and TTR where weights were kept along the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import polars as pl

from rayfit.columns import ORIGINAL, TRAINED, TRUTH, WHO, column, columns_of_evaluations
from rayfit.findings.labels import label, telling
from rayfit.records.storage import Storage
from rayfit.records.sweep import Row
from rayfit.records.trials import finest_curve
from rayfit.report.figures.model import Figure, Level, Line, Look, Panel
from rayfit.report.figures.palette import (
    ORIGINAL_COLOUR,
    ORIGINAL_DASH,
    TRUTH_COLOUR,
    TRUTH_DASH,
    looks,
)

_PANELS = ("train_loss", "validation_loss", "validation_entropy_nats", "train_accuracy")
_MOST_LINES = 24


def curve_figure(trials: Sequence[str], rows: Sequence[Row], storage: Storage) -> Figure:
    """A panel per number, a line per trial; trials that differ in seeds only share a colour."""
    title = "Along training"
    curves = {key: frame for key in trials if (frame := read_curve(storage, key)) is not None}
    first = {row.trial_id: row for row in _first_of_each([row for row in rows if row.who == TRAINED])}
    of_trials = {key: first[key] for key in curves if key in first}
    if not of_trials:
        return Figure("curve", title, missing="no finished trial left a training curve")
    shown = dict(list(of_trials.items())[:_MOST_LINES])
    columns = telling(list(shown.values()), but=(*columns_of_evaluations(), "update"))
    chosen = _chosen_looks(list(shown.values()), columns)
    x = "epoch" if len({row.epochs for row in shown.values()}) == 1 else "update"
    lines = {
        name: [_line(curves[key], x, name, chosen[_name(row, columns)]) for key, row in shown.items()]
        for name in _PANELS
    }
    panels = [_panel(name, x, tuple(line for line in found if line.x)) for name, found in lines.items()]
    kept = _ttr_panel(rows, set(shown), columns, chosen, x)
    left_out = len(of_trials) - len(shown)
    caption = (
        "One line per trial, as its own training measured it: on the first of the training rows and on the validation "
        "rows, in training precision."
    )
    if left_out:
        caption += f" The first {len(shown)} trials; {left_out} more are not drawn."
    drawn = (*(panel for panel in panels if panel.lines), *([kept] if kept else []))
    levels = [level.look for level in kept.levels] if kept else []
    return Figure("curve", title, caption, drawn, (*chosen.values(), *levels))


def read_curve(storage: Storage, trial_id: str) -> pl.DataFrame | None:
    """The finest training curve that a trial's record points at and that is still there; None where there is none."""
    record = storage.trial(trial_id)
    path = None if record is None else finest_curve(storage, record)
    return None if path is None else pl.read_parquet(path)


def _name(row: Row, columns: Sequence[str]) -> str:
    return label(msgspec.structs.replace(row, update=None), columns)


def _chosen_looks(rows: Sequence[Row], columns: Sequence[str]) -> dict[str, Look]:
    names = list(dict.fromkeys(_name(row, columns) for row in rows))
    ordered = len(columns) == 1 and all(isinstance(row.value(columns[0]), int | float) for row in rows)
    return {look.label: look for look in looks(names, ordered=ordered)}


def _line(frame: pl.DataFrame, x: str, y: str, look: Look) -> Line:
    if y not in frame.columns:
        return Line(look, (), ())
    points = frame.select(x, y).drop_nulls().sort(x)
    return Line(look, tuple(points[x].to_list()), tuple(points[y].to_list()))


def _panel(y: str, x: str, lines: tuple[Line, ...]) -> Panel:
    return Panel(
        "", f"{x}s", column(y).title_with_unit, lines, y_range=(0, 1) if column(y).is_share else None
    )


def _ttr_panel(
    rows: Sequence[Row], trials: set[str], columns: Sequence[str], chosen: Mapping[str, Look], x: str
) -> Panel | None:
    """TTR of the weights kept along training, under the sweep's first decoding and domain; None where none were kept."""
    y = "ttr_last_96"
    kept = [row for row in rows if row.trial_id in trials and row.update is not None]
    if not kept:
        return None
    decoding, domain = kept[0].decoding, kept[0].domain
    same = [row for row in rows if row.domain == domain and row.decoding in (decoding, None)]
    points: dict[str | None, list[tuple[float, float]]] = {}
    for row in same:
        if row.who == TRAINED and row.value(y) is not None:
            points.setdefault(row.trial_id, []).append((_place(row, x), row.value(y)))
    found = []
    for row in _first_of_each(kept):
        if row.trial_id in points:
            x_values, y_values = zip(*sorted(points[row.trial_id]), strict=True)
            found.append(Line(chosen[_name(row, columns)], x_values, y_values))
    levels = tuple(
        Level(look, row.value(y))
        for who, look in (
            (ORIGINAL, Look(WHO[ORIGINAL], ORIGINAL_COLOUR, "", ORIGINAL_DASH)),
            (TRUTH, Look(WHO[TRUTH], TRUTH_COLOUR, "", TRUTH_DASH)),
        )
        for row in same
        if row.who == who and row.value(y) is not None
    )
    return Panel("", f"{x}s", column(y).title_with_unit, tuple(found), levels, y_range=(0, 1))


def _first_of_each(rows: Sequence[Row]) -> list[Row]:
    """The first row of each trial."""
    first: dict[str | None, Row] = {}
    for row in rows:
        first.setdefault(row.trial_id, row)
    return list(first.values())


def _place(row: Row, x: str) -> float:
    assert row.updates is not None and row.epochs is not None  # declared of every trial
    update = row.updates if row.update is None else row.update
    return float(update) if x == "update" else update / row.updates * row.epochs
