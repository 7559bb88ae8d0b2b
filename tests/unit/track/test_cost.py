"""What telling MLflow of a sweep costs: as much per trial in a large sweep as in a small one."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import msgspec
import pytest

from rayfit.records.measurement import MeasurementRecord
from rayfit.records.storage import TRIALS, Storage
from rayfit.records.sweep import PlannedMeasurement, SweepRecord
from rayfit.records.trial import TrialRecord
from rayfit.records.trials import finest_curve
from rayfit.track.index import SweepIndex
from rayfit.track.parent import parent_content
from rayfit.track.runs import trial_content
from rayfit.track.view import view_tag
from tests.unit.track.sweeps import run_of, trial_with


def many(storage: Storage, count: int) -> SweepRecord:
    """The running sweep of one trial with the same trial under many ids: `count` times its records."""
    made = run_of(storage, samples=(8,), decodings=("greedy", "matched"), keep_every=40.0).all()
    record = made.begun()
    trained = storage.trial(trial_with(made, 8).id)
    assert trained is not None
    own = [each for each in record.measurements if trained.id in (each.trial_id, each.matched_to)]
    trials, measurements, rows = [], [], []
    for number in range(count):
        identifier = f"{trained.readable}-{number:012x}"
        _write_trial(storage, trained, identifier)
        names = {each.id: f"{each.id}-{number:04}" for each in own}
        for each in own:
            found = storage.measurement(each.kind, each.id)
            assert found is not None
            _write_measurement(storage, found, trained.id, identifier, names)
            measurements.append(_renamed(each, trained.id, identifier, names[each.id]))
        rows += [
            msgspec.structs.replace(row, trial_id=identifier)
            for row in record.rows
            if row.trial_id == trained.id
        ]
        trials.append(identifier)
    return msgspec.structs.replace(
        record,
        trials=tuple(trials),
        arms={"all": tuple(trials)},
        measurements=tuple(measurements),
        rows=tuple(rows),
    )


def _write_trial(storage: Storage, trained: TrialRecord, identifier: str) -> None:
    curve_file = finest_curve(storage, trained)
    assert curve_file is not None
    folder = storage.folder(TRIALS, identifier)
    place = folder / curve_file.relative_to(storage.folder(TRIALS, trained.id))
    place.parent.mkdir(parents=True)
    shutil.copyfile(curve_file, place)
    storage.write(TRIALS, identifier, msgspec.structs.replace(trained, id=identifier))


def _write_measurement(
    storage: Storage, found: MeasurementRecord, old: str, new: str, names: dict[str, str]
) -> None:
    copied = msgspec.structs.replace(
        found,
        id=names[found.id],
        trial_id=new if found.trial_id == old else None,
        matched_to=new if found.matched_to == old else None,
        inputs={names.get(key, key): content for key, content in found.inputs.items()},
    )
    storage.write(copied.kind, copied.id, copied)


def _renamed(each: PlannedMeasurement, old: str, new: str, identifier: str) -> PlannedMeasurement:
    trial_id = new if each.trial_id == old else None
    matched_to = new if each.matched_to == old else None
    return msgspec.structs.replace(each, id=identifier, trial_id=trial_id, matched_to=matched_to)


def seconds_per_trial(storage: Storage, record: SweepRecord) -> float:
    """CPU seconds of all that is made for MLflow, without what MLflow does with it."""
    begin = time.process_time()
    sweep = SweepIndex(record, storage)
    sweep.refresh(record.trials)
    told = []
    for trial_id in record.trials:
        content = trial_content(storage, sweep, trial_id, finished=False)
        assert content is not None and content.status == "FINISHED"
        told.append(content.told)
    parent_content(storage, sweep, told, finished=True)
    view_tag("parent", record, sweep.rows, {name for child in told for name in child.metrics})
    return (time.process_time() - begin) / len(record.trials)


def test_a_trial_costs_the_same_however_many_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Thousands of records are written here, and whether they survive a power cut is no matter.
    monkeypatch.setattr(os, "fsync", lambda _: None)
    small, large = Storage(tmp_path / "small"), Storage(tmp_path / "large")
    few, thousand = many(small, 10), many(large, 1000)
    for _ in range(3):
        in_few = min(seconds_per_trial(small, few) for _ in range(5))
        in_many = seconds_per_trial(large, thousand)
        if in_many <= 1.5 * in_few:
            return
    raise AssertionError(
        f"{1000 * in_few:.2f} ms per trial of 10, {1000 * in_many:.2f} ms per trial of 1,000"
    )
