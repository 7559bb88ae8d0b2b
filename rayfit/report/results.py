"""A sweep's rows as files for other programs: parquet and CSV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from rayfit.columns import columns_of_rows
from rayfit.records.storage import write_csv, write_parquet
from rayfit.report.rows import Row, interval, value


def results_frame(rows: list[Row]) -> pl.DataFrame:
    """One line per row of the sweep; `x_low` and `x_high`, the 95% interval, follow each column x that has one.

    The columns that every row has stand first, the other scores after them by name.
    """
    present = {name for row in rows for name in row} - {"intervals"}
    names = [name for name in columns_of_rows() if name in present]
    names += sorted(present - set(names))
    bounded = {name for row in rows for name in row.get("intervals", {})}
    return pl.DataFrame([_flat(row, names, bounded) for row in rows], infer_schema_length=None)


def _flat(row: Row, names: Sequence[str], bounded: set[str]) -> Row:
    flat: Row = {}
    for name in names:
        flat[name] = value(row, name)
        if name in bounded:
            flat[f"{name}_low"], flat[f"{name}_high"] = interval(row, name)
    return flat


def write_results(rows: list[Row], folder: Path) -> tuple[Path, Path]:
    """Write `results.parquet` and `results.csv` (UTF-8, what is null is empty) into a folder; returns their paths."""
    frame = results_frame(rows)
    write_parquet(folder / "results.parquet", frame)
    write_csv(folder / "results.csv", frame)
    return folder / "results.parquet", folder / "results.csv"
