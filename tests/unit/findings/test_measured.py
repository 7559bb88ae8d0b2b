"""Which row a measurement belongs to, and which record a row's measurement has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rayfit.config import Options
from rayfit.findings.measured import further, measured
from rayfit.plan.planning import make_plan
from rayfit.records.storage import Storage
from rayfit.records.sweep import SweepRecord
from tests.finished import Finished, finished
from tests.unit.plan.examples import BASE, SWEEP, plan_of


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "runs")


def test_rows_come_with_their_records_in_their_order(storage: Storage) -> None:
    record = finished(storage, plan_of(storage, samples=(8, 32), decodings=("greedy", "nucleus")))
    found = measured(record.rows, "scores", storage)
    assert [one.row for one in found] == list(record.rows)
    for one in found:
        assert (one.record.who, one.record.trial_id, one.record.decoding) == (
            one.row.who,
            one.row.trial_id,
            one.row.decoding,
        )
    # No decoding changes predictions, and the truth has none.
    predicted = measured(record.rows, "predictions", storage)
    assert len(predicted) == len(record.rows) - 1 and len({one.record.id for one in predicted}) == 3


def test_what_is_not_measured_or_gone_is_left_out(storage: Storage) -> None:
    made = Finished(storage, plan_of(storage))
    assert measured(made.begun().rows, "scores", storage) == []
    record = made.all().record()
    for path in storage.root.glob("scores/*/record.json"):
        path.unlink()
    assert measured(record.rows, "scores", storage) == []
    assert measured(record.rows, "no such kind", storage) == []


def _reads(storage: Storage, record: SweepRecord, monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    asked: list[str | None] = []
    own = Storage.measurement

    def counted(self: Storage, kind: str, identifier: str | None) -> object:
        asked.append(identifier)
        return own(self, kind, identifier)

    monkeypatch.setattr(Storage, "measurement", counted)
    measured(record.rows, "predictions", storage)
    further(record, record.rows, "scores", storage)
    return asked


def test_every_record_is_read_once(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(storage, decodings=("greedy", "nucleus"), further_contexts=20)
    asked = _reads(storage, finished(storage, plan), monkeypatch)
    assert len(asked) == len(set(asked)) == 2 + 4


def test_further_contexts_belong_to_the_row_of_the_same_weights_and_decoding(storage: Storage) -> None:
    plan = plan_of(storage, decodings=("greedy", "nucleus"), further_contexts=20)
    record = finished(storage, plan)
    found = further(record, record.rows, "scores", storage)
    assert [(one.row.who, one.row.decoding) for one in found] == [
        (who, name) for who in ("original", "trained") for name in ("greedy", "nucleus")
    ]
    for one in found:
        assert (one.record.who, one.record.decoding) == (one.row.who, one.row.decoding)
        assert one.record.id not in one.row.measurements.values()
    assert further(record, record.rows[:1], "scores", storage) == []
    assert further(record, record.rows, "comparisons", storage) == []


def test_of_two_arms_with_the_same_training_the_first_has_the_further_contexts(storage: Storage) -> None:
    sweep = replace(SWEEP, arms={"one": {}, "another": {}})
    options = Options(**{**BASE, "storage": str(storage.root), "further_contexts": 20, "scale": "ci"})
    record = finished(storage, make_plan(sweep, options, storage))
    assert [row.arm for row in record.rows if row.who == "trained"] == ["one", "another"]
    found = further(record, record.rows, "scores", storage)
    assert [one.row.arm for one in found] == [None, "one"]
