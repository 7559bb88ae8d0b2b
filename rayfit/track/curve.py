"""The worker's own measurements along a trial's training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from rayfit.track.content import Point, as_number, milliseconds, points

# columns of a curve's file: its x axis, what has a metric of its own, and what never changes
_NOT_CURVES = ("update", "epoch", "train_rows")


def curve_points(record: Mapping[str, Any], curve_file: Path | None) -> list[Point]:
    """The worker's own measurements as `curve/<name>`, and `epoch`, over the number of updates.

    The time of a point is the trial's start plus its seconds, so that logging it twice stores it once.
    """
    started = milliseconds(record.get("started_at")) or 0
    measured = pl.read_parquet(curve_file).to_dicts() if curve_file else []
    final = record.get("final") or {}
    if final and all(row["update"] != final.get("update") for row in measured):
        measured.append({"update": record.get("num_updates"), **final})
    return [
        point for row in measured if row.get("update") is not None for point in measured_points(row, started)
    ]


def measured_points(measured: Mapping[str, Any], started: int) -> list[Point]:
    """One measurement of a worker, of a training that began at `started` (milliseconds since 1970)."""
    time = started + round(1000 * (as_number(measured.get("seconds")) or 0.0))
    values = {f"curve/{key}": value for key, value in measured.items() if key not in _NOT_CURVES}
    return points({"epoch": measured.get("epoch"), **values}, time, int(measured["update"]))
