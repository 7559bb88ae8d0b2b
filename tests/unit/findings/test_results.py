"""Rows as flat tables: names, intervals, ids, and what is null."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from rayfit.columns import columns_of_rows
from rayfit.findings.results import flat_row, results_frame, write_results
from rayfit.records.storage import Storage
from tests.finished import finished
from tests.rows import row
from tests.unit.plan.examples import plan_of

ROWS = [
    row("truth", ttr_last_96=(0.7, 0.6, 0.8)),
    row("trained", ttr_last_96=(0.61, 0.55, 0.66), train_loss=0.02, reason='said "no", twice\nand again'),
]


def test_a_row_is_a_line_and_intervals_are_columns_beside_their_score() -> None:
    frame = results_frame(ROWS)
    assert "intervals" not in frame.columns
    place = frame.columns.index("ttr_last_96")
    assert frame.columns[place : place + 3] == ["ttr_last_96", "ttr_last_96_low", "ttr_last_96_high"]
    assert frame["ttr_last_96_high"].to_list() == [0.8, 0.66]
    assert frame["train_loss"].to_list() == [None, 0.02]
    assert "train_loss_low" not in frame.columns


def test_both_files_hold_the_same(tmp_path: Path) -> None:
    parquet, csv = write_results(ROWS, tmp_path)
    assert (parquet.name, csv.name) == ("results.parquet", "results.csv")
    read = pl.read_parquet(parquet)
    assert read.equals(results_frame(ROWS))
    again = pl.read_csv(csv, infer_schema_length=None)
    assert again.columns == read.columns
    assert again["ttr_last_96"].to_list() == read["ttr_last_96"].to_list()
    assert again["reason"].to_list()[1] == 'said "no", twice\nand again'
    assert again["train_loss"].to_list() == [None, 0.02]


def test_every_row_has_the_columns_of_rows_and_the_ids_of_its_measurements(tmp_path: Path) -> None:
    rows = finished(Storage(tmp_path / "runs"), plan_of(Storage(tmp_path / "runs"))).rows
    truth, _, trained = map(flat_row, rows)
    assert set(columns_of_rows()) <= set(truth)
    assert trained["scores_id"] == rows[2].measurements["scores"] and "predictions_id" not in truth
    assert trained["intervals"]["rep_4"] == rows[2].bounds("rep_4")
    frame = results_frame(rows)
    assert frame["predictions_id"].to_list() == [None, *(row.measurements["predictions"] for row in rows[1:])]
