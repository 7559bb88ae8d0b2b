"""What runs take from the rows of a sweep's summary: pooled scores, what only rows hold, why something failed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rayfit.columns import POOLED, names
from rayfit.report.rows import interval, is_original, value
from rayfit.track.content import Point, points, valid_key
from rayfit.track.measured import Measurement, interval_values
from rayfit.track.names import Names

Row = Mapping[str, Any]


def rows_of_trial(sweep: Mapping[str, Any], trial_id: str) -> list[Row]:
    """The rows of a trial; those of an original that is matched to it are among them."""
    return [row for row in sweep.get("rows", []) if value(row, "trial_id") == trial_id]


def rows_of_original(sweep: Mapping[str, Any], model: str | None) -> list[Row]:
    """The rows of a model before any training; of all models for None."""
    rows = [row for row in sweep.get("rows", []) if is_original(row) and not value(row, "trial_id")]
    return [row for row in rows if model is None or value(row, "model") in (None, model)]


def failure_in(rows: Iterable[Row]) -> str | None:
    """Why one of the rows has no numbers."""
    failed = [row for row in rows if value(row, "status") == "FAILED"]
    return str(failed[0].get("reason") or "unknown") if failed else None


def failure_of(sweep: Mapping[str, Any], measurements: Iterable[Measurement]) -> str | None:
    """Why one of the measurements has no record: those on further contexts and the comparisons have no row to say it."""
    failed: Mapping[str, str] = sweep.get("failed_measurements", {})
    missing = (each for each in measurements if each.record is None)
    found = (failed.get(each.folder.name) for each in missing)
    return next((error for error in found if error), None)


def arms_of(sweep: Mapping[str, Any], trial_id: str) -> str | None:
    """The names of the arms that a trial stands in; None where the sweep has no arms of its own."""
    return "; ".join(name for name, ids in (sweep.get("arms") or {}).items() if trial_id in ids) or None


def row_points(
    sweep: Mapping[str, Any], rows: Iterable[Row], own: Sequence[Measurement], time: int, last_update: int
) -> dict[tuple[str, int], Point]:
    """The numbers that no single measurement's record holds, by name and update.

    The rows of all domains pooled have scores of their own, under `pooled`. From the others come minutes and the like:
    once for a training; for originals, which are evaluated one by one, under each evaluation's prefix.
    """
    sweep_names = Names(sweep)
    of_training = names(lambda each: each.role == "about" and each.of == "training" and each.is_number)
    fixed = frozenset[str]().union(*(entry.fixed for entry in own))
    found: dict[tuple[str, int], Point] = {}
    for row in rows:
        is_matched = is_original(row) and value(row, "trial_id") is not None
        prefix = sweep_names.prefix(
            str(value(row, "decoding")), str(value(row, "domain")), matched=is_matched
        )
        if value(row, "domain") == POOLED:
            values = _pooled_values(row, prefix, fixed, is_matched=is_matched)
        elif is_matched:
            continue
        else:
            prefix = prefix if is_original(row) else ()
            values = {valid_key(*prefix, name): value(row, name) for name in of_training}
        update = value(row, "update")
        for point in points(values, time, last_update if update is None else update):
            found.setdefault((point.key, point.step), point)
    return found


def _pooled_values(
    row: Row, prefix: tuple[str, ...], fixed: frozenset[str], *, is_matched: bool
) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name in names(lambda each: each.role == "measured"):
        if value(row, name) is None or (is_matched and name in fixed):
            continue
        key = valid_key(*((POOLED,) if name in fixed else prefix), name)
        number, ends = value(row, name), interval(row, name)
        values |= {key: number} if value(row, "update") else interval_values(key, number, ends)
    return values
