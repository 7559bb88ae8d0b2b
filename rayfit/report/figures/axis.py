"""One number against what varies: a line per group of trials, the original and the true continuations as levels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import msgspec

from rayfit.columns import TRAINED, TRUTH, Column, column
from rayfit.findings.groups import Group, grouped
from rayfit.findings.labels import label, lengths_differ, telling
from rayfit.records.sweep import Row
from rayfit.report.figures.model import Figure, Level, Line, Look, Panel
from rayfit.report.figures.palette import (
    MARKERS,
    ORIGINAL_COLOUR,
    ORIGINAL_DASH,
    TRUTH_COLOUR,
    TRUTH_DASH,
    looks,
)
from rayfit.report.figures.scale import Scale

_MOST_LEVELS = 6
Key: TypeAlias = tuple[Any, ...]


def axis_figure(rows: Sequence[Row], x: str, ys: Sequence[str]) -> Figure:
    """`ys` against `x`, a panel each, and one per domain where the trials are evaluated on several."""
    rows = [_with_final_update(row) if x == "update" else row for row in rows]
    trials = [row for row in rows if row.who == TRAINED and row.value(x) is not None]
    columns = telling(trials, but=(x,))
    domains = list(dict.fromkeys(row.domain for row in trials)) if "domain" in columns else [None]
    columns = [name for name in columns if name != "domain"]
    if _is_measured(x):
        # Where x is measured everything may vary along a line: what is named first tells lines apart.
        columns = columns[:1]
    chosen = _chosen_looks(trials, columns, with_length=lengths_differ(rows))
    scale = Scale([row.value(x) for row in trials], measured=_is_measured(x))
    panels = tuple(
        _panel(
            [row for row in rows if domain in (None, row.domain)],
            x,
            y,
            chosen,
            columns,
            scale,
            domain or "",
        )
        for y in ys
        for domain in domains
    )
    drawn = [line.look for panel in panels for line in panel.lines]
    drawn += [level.look for panel in panels for level in panel.levels]
    legend = tuple({look.label: look for look in reversed(drawn)}.values())[::-1]
    several = any(len(group.rows) > 1 for group in grouped(trials))
    hollow = any(any(line.hollow) for panel in panels for line in panel.lines)
    title = f"{' and '.join(column(y).title for y in ys)} against {_x_column(x).title}"
    if not any(panel.lines for panel in panels):
        return Figure("axis", title, missing="no finished trial has both numbers")
    return Figure("axis", title, _caption(several, hollow), panels, legend)


def _x_column(name: str) -> Column:
    # Final weights are drawn at their last update.
    return column("updates" if name == "update" else name)


def _is_measured(name: str) -> bool:
    return column(name).role == "measured"


def _caption(several_seeds: bool, hollow: bool) -> str:
    caption = "Bars and bands are 95% intervals over contexts."
    if several_seeds:
        caption = (
            "Large points are means over seeds with bars of one standard deviation; small points are single seeds. "
            "Bands are 95% intervals over contexts."
        )
    return f"{caption} Hollow points did not end hyperfitted." if hollow else caption


def _with_final_update(row: Row) -> Row:
    return msgspec.structs.replace(row, update=row.updates) if row.update is None else row


def _panel(
    rows: Sequence[Row],
    x: str,
    y: str,
    chosen: Mapping[Key, Look],
    columns: list[str],
    scale: Scale,
    title: str,
) -> Panel:
    trials = grouped([row for row in rows if row.who == TRAINED and row.value(x) is not None])
    by_key: dict[Key, list[Group]] = {}
    for group in trials:
        if group.cell(y) is not None:
            by_key.setdefault(_key(group.row, columns), []).append(group)
    step = min(14.0, 84.0 / max(1, len(chosen))) if scale.words else min(4.0, 24.0 / max(1, len(chosen)))
    lines = [
        _line(members, x, y, scale, chosen[key], step * (place - (len(by_key) - 1) / 2))
        for place, (key, members) in enumerate(by_key.items())
    ]
    levels: list[Level] = []
    others: dict[Look, list[Group]] = {}
    for group in grouped([row for row in rows if row.who != TRAINED]):
        look = _other_look(group.row, columns, chosen, lengths_differ(rows))
        cell = group.cell(y)
        if (
            cell is not None
            and (_is_measured(x) or group.row.value(x) is None)
            and len(levels) < _MOST_LEVELS
        ):
            levels.append(Level(replace(look, marker=""), cell.value, cell.bounds))
        elif cell is not None and not _is_measured(x) and scale.place(group.row.value(x)) is not None:
            others.setdefault(look, []).append(group)
    lines += [_line(members, x, y, scale, look, 0.0) for look, members in others.items()]
    return Panel(
        title=title,
        x_title=_x_column(x).title_with_unit,
        y_title=column(y).title_with_unit,
        lines=tuple(lines),
        levels=tuple(levels),
        x_scale="log" if scale.log else "linear",
        x_ticks=scale.ticks,
        y_range=(0, 1) if column(y).is_share else None,
    )


def _key(row: Row, columns: Sequence[str]) -> Key:
    return tuple(row.value(name) for name in columns)


def _chosen_looks(trials: Sequence[Row], columns: Sequence[str], *, with_length: bool) -> dict[Key, Look]:
    """A look per kind of trial, the same in every panel."""
    first = {_key(row, columns): row for row in reversed(trials)}
    keys = list(dict.fromkeys(_key(row, columns) for row in trials))
    names = [label(first[key], columns, with_length=with_length) for key in keys]
    ordered = all(len(key) == 1 and isinstance(key[0], int | float) for key in keys)
    return dict(zip(keys, looks(names, ordered=ordered), strict=True))


def _line(members: list[Group], x: str, y: str, scale: Scale, look: Look, shift: float) -> Line:
    points = []
    for group in members:
        at = group.cell(x) if _is_measured(x) else None
        place, cell = scale.place(group.row.value(x)) if at is None else at.value, group.cell(y)
        assert place is not None and cell is not None
        singles = tuple((place, single) for single in cell.singles) if len(cell.singles) > 1 else ()
        hollow = group.row.who == TRAINED and any(row.hyperfitted is False for row in group.rows)
        points.append((place, cell.value, cell.bounds, singles, hollow))
    points.sort(key=lambda point: point[0])
    return Line(
        replace(look, dash="none") if scale.words or _is_measured(x) else look,
        tuple(point[0] for point in points),
        tuple(point[1] for point in points),
        tuple(point[2] for point in points),
        tuple(single for point in points for single in point[3]),
        joined=not scale.words and not _is_measured(x),
        shift=0.0 if _is_measured(x) else shift,  # a measured number is drawn where it is
        hollow=tuple(point[4] for point in points),
    )


def _other_look(row: Row, columns: list[str], chosen: Mapping[Key, Look], with_length: bool) -> Look:
    """The original takes the colour of the trials that share all it can share with them."""
    own = [name for name in columns if row.value(name) is not None]
    text = label(row, own, with_length=with_length)
    if row.who == TRUTH:
        return Look(text, TRUTH_COLOUR, MARKERS[6], TRUTH_DASH)
    alike = [
        look
        for key, look in chosen.items()
        if own
        and all(given == row.value(name) for name, given in zip(columns, key, strict=True) if name in own)
    ]
    colour = alike[0].colour if len(alike) == 1 else ORIGINAL_COLOUR
    return Look(text, colour, MARKERS[7], ORIGINAL_DASH)
