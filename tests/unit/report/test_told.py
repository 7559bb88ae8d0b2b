"""What is remembered of a sweep's report and of MLflow, and what forgets it."""

from __future__ import annotations

import os

import msgspec
import pytest

from rayfit.records.storage import RECORD, SWEEPS
from rayfit.records.told import remember_told, told_of
from tests.unit.report.sweeps import Kept


def test_it_is_kept_while_the_sweep_is_as_it_is(full: Kept) -> None:
    storage, record = full.storage, full.record
    assert told_of(storage, record) == {}
    remember_told(storage, record, report="one")
    remember_told(storage, record, mlflow="two")
    assert told_of(storage, record) == {"report": "one", "mlflow": "two"}
    launched_again = msgspec.structs.replace(record, launches=(*record.launches, record.launches[-1]))
    assert told_of(storage, launched_again) == {"report": "one", "mlflow": "two"}


@pytest.mark.parametrize("kind", ["trials", "predictions"])
def test_another_record_of_what_it_names_forgets_it(full: Kept, kind: str) -> None:
    storage, record = full.storage, full.record
    remember_told(storage, record, report="one")
    file = next(storage.root.glob(f"{kind}/*/{RECORD}"))
    os.utime(file, ns=(1, 1))
    assert told_of(storage, record) == {}
    remember_told(storage, record, mlflow="two")
    assert told_of(storage, record) == {"mlflow": "two"}


def test_another_row_forgets_it_and_so_does_a_broken_file(full: Kept) -> None:
    storage, record = full.storage, full.record
    remember_told(storage, record, report="one")
    assert told_of(storage, msgspec.structs.replace(record, rows=record.rows[1:])) == {}
    (storage.folder(SWEEPS, record.id) / "told.json").write_text("{")
    assert told_of(storage, record) == {}
