"""A sweep's rows as flat tables for other programs: parquet, CSV and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from rayfit.columns import columns_of_rows
from rayfit.records.storage import write_csv, write_parquet
from rayfit.records.sweep import Row


def flat_row(row: Row) -> dict[str, Any]:
    """One row by the names of its columns, scores that it has after those that every row has.

    `intervals`: by score its 95% interval. `<kind>_id`: the measurements whose scores it has.
    """
    names = [*columns_of_rows(), *(name for name in sorted(row.scores))]
    ids = {f"{kind}_id": identifier for kind, identifier in sorted(row.measurements.items())}
    bounds = {name: found for name in row.scores if (found := row.bounds(name)) is not None}
    return {**{name: row.value(name) for name in names}, **ids, "intervals": bounds}


def results_frame(rows: Sequence[Row]) -> pl.DataFrame:
    """One line per row of the sweep; `x_low` and `x_high`, the 95% interval, follow each column x that has one.

    The columns that every row has stand first, the other scores after them by name, then the ids of measurements.
    """
    first = columns_of_rows()
    scores = sorted({name for row in rows for name in row.scores} - set(first))
    kinds = sorted({kind for row in rows for kind in row.measurements})
    bounded = {name for row in rows for name in row.scores if row.bounds(name) is not None}
    return pl.DataFrame(
        [_flat(row, [*first, *scores], kinds, bounded) for row in rows], infer_schema_length=None
    )


def _flat(row: Row, names: Sequence[str], kinds: Sequence[str], bounded: set[str]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name in names:
        flat[name] = row.value(name)
        if name in bounded:
            flat[f"{name}_low"], flat[f"{name}_high"] = row.bounds(name) or (None, None)
    return flat | {f"{kind}_id": row.measurements.get(kind) for kind in kinds}


def write_results(rows: Sequence[Row], folder: Path) -> tuple[Path, Path]:
    """Write `results.parquet` and `results.csv` (UTF-8, what is null is empty) into a folder; returns their paths."""
    frame = results_frame(rows)
    write_parquet(folder / "results.parquet", frame)
    write_csv(folder / "results.csv", frame)
    return folder / "results.parquet", folder / "results.csv"
