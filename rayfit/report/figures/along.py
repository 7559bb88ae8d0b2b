"""Training curves: losses, entropy and accuracy of every trial, and TTR where weights were kept along the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from rayfit.columns import ORIGINAL, TRUTH, WHO, column, columns_of_evaluations
from rayfit.records.storage import Storage
from rayfit.records.trials import finest_curve
from rayfit.report.figures.model import Figure, Level, Line, Look, Panel
from rayfit.report.figures.palette import (
    ORIGINAL_COLOUR,
    ORIGINAL_DASH,
    TRUTH_COLOUR,
    TRUTH_DASH,
    looks,
)
from rayfit.report.labels import label, telling
from rayfit.report.rows import Row, is_trained, value

_PANELS = ("train_loss", "validation_loss", "validation_entropy_nats", "train_accuracy")
_MOST_LINES = 24


def curve_figure(record: Mapping[str, Any], storage: Storage) -> Figure:
    """A panel per number, a line per trial; trials that differ in seeds only share a colour."""
    title = "Along training"
    curves = {
        key: frame for key in record.get("trials", []) if (frame := read_curve(storage, key)) is not None
    }
    rows = {
        value(row, "trial_id"): row
        for row in reversed(record.get("rows", []))
        if is_trained(row) and value(row, "trial_id") in curves
    }
    rows = {key: rows[key] for key in curves if key in rows}
    if not rows:
        return Figure("curve", title, missing="no finished trial left a training curve")
    shown = dict(list(rows.items())[:_MOST_LINES])
    columns = telling(list(shown.values()), but=(*columns_of_evaluations(), "update"))
    chosen = _chosen_looks(list(shown.values()), columns)
    x = "epoch" if len({value(row, "epochs") for row in shown.values()}) == 1 else "update"
    lines = {
        name: [_line(curves[key], x, name, chosen[_name(row, columns)]) for key, row in shown.items()]
        for name in _PANELS
    }
    panels = [_panel(name, x, tuple(line for line in found if line.x)) for name, found in lines.items()]
    kept = _ttr_panel(record.get("rows", []), set(shown), columns, chosen, x)
    left_out = len(rows) - len(shown)
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
    record = storage.read("trials", trial_id)
    path = None if record is None else finest_curve(storage, record)
    return None if path is None else pl.read_parquet(path)


def _name(row: Row, columns: Sequence[str]) -> str:
    return label({**row, "update": None}, columns)


def _chosen_looks(rows: Sequence[Row], columns: Sequence[str]) -> dict[str, Look]:
    names = list(dict.fromkeys(_name(row, columns) for row in rows))
    ordered = len(columns) == 1 and all(isinstance(value(row, columns[0]), int | float) for row in rows)
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
    kept = [row for row in rows if value(row, "trial_id") in trials and value(row, "update") is not None]
    if not kept:
        return None
    decoding, domain = kept[0]["decoding"], kept[0]["domain"]
    same = [
        row for row in rows if value(row, "domain") == domain and value(row, "decoding") in (decoding, None)
    ]
    found = []
    for trial in dict.fromkeys(value(row, "trial_id") for row in kept):
        points = sorted(
            (_place(row, x), value(row, y))
            for row in same
            if value(row, "trial_id") == trial and value(row, y) is not None
        )
        row = next(row for row in kept if value(row, "trial_id") == trial)
        if points:
            x_values, y_values = zip(*points, strict=True)
            found.append(Line(chosen[_name(row, columns)], x_values, y_values))
    levels = tuple(
        Level(look, value(row, y))
        for who, look in (
            (ORIGINAL, Look(WHO[ORIGINAL], ORIGINAL_COLOUR, "", ORIGINAL_DASH)),
            (TRUTH, Look(WHO[TRUTH], TRUTH_COLOUR, "", TRUTH_DASH)),
        )
        for row in same
        if value(row, "who") == who and value(row, y) is not None
    )
    return Panel("", f"{x}s", column(y).title_with_unit, tuple(found), levels, y_range=(0, 1))


def _place(row: Row, x: str) -> float:
    update = value(row, "updates") if value(row, "update") is None else value(row, "update")
    return float(update) if x == "update" else update / value(row, "updates") * value(row, "epochs")
