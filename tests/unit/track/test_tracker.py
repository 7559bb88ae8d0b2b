"""The one thread that tells MLflow: what it tells, when, and what becomes of it when something goes wrong."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from rayfit.records.storage import Storage
from rayfit.track import sync
from rayfit.track.connection import TrackingError, connect, default_tracking_uri
from rayfit.track.tracker import Tracker
from tests.unit.track.reading import all_runs, child_of, children_of, history, parent_of
from tests.unit.track.sweeps import (
    curve,
    launch,
    measure_all,
    run_of,
    running,
    see_all,
    started,
    trial_with,
)


def wait_for(done: Callable[[], bool]) -> None:
    begin = time.monotonic()
    while not done():
        assert time.monotonic() - begin < 60
        time.sleep(0.02)


def quick(storage: Storage) -> Tracker:
    return Tracker(storage, default_tracking_uri(storage), curves_seconds=0.05, children_seconds=0.05)


def test_a_wrong_address_is_refused_before_training(storage: Storage) -> None:
    with pytest.raises(TrackingError, match="no MLflow server answers"):
        Tracker(storage, "http://127.0.0.1:9").ready()


def test_it_tells_without_being_asked(storage: Storage) -> None:
    made, trial_id = launch(storage)
    record = made.begun()
    tracker = quick(storage)
    tracker.start(record)
    client = connect(None, storage)
    begin = time.monotonic()
    see_all(tracker, trial_id, curve(0, 5, 10, 15))
    assert time.monotonic() - begin < 0.05  # nothing is sent here

    def runs() -> list[Any]:
        found = client.get_experiment_by_name("rayfit/data_quantity")
        return [run for run in all_runs(client) if "rayfit.trial_id" in run.data.tags] if found else []

    wait_for(lambda: any("curve/train_loss" in run.data.metrics for run in runs()))
    assert len(history(client, runs()[0])["curve/train_loss"]) == 4
    made.train(trial_with(made, 8), curve=curve(), finished_at="2035-01-01T00:00:00+00:00")
    tracker.see(running(trial_id, None, status="finished"))
    tracker.changed(trial_id)
    wait_for(lambda: "rayfit.trained_at" in runs()[0].data.tags)
    measure_all(made, None)
    tracker.changed(None)
    parent = parent_of(client, record.id)
    wait_for(lambda: len(children_of(client, parent)) == 2)
    tracker.stop()
    tracker.stop()
    assert (tracker.error, tracker.place) == ("", "")


def test_what_changed_is_read_and_nothing_else(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    made = run_of(storage)
    eight, _, many = (trial_with(made, samples) for samples in (8, 32, 128))
    record = made.begun()
    client, tracker = started(storage, record)
    for trial in (eight, many):
        made.train(trial)
    measure_all(made, None, eight)
    tracker.tell()
    measure_all(made, many)
    read: Counter[str] = Counter()
    for name in ("trial", "measurement"):
        monkeypatch.setattr(Storage, name, _counted(getattr(Storage, name), read))
    tracker.changed(many.id)
    tracker.tell()
    own = {each.id for each in record.measurements if each.trial_id == many.id}
    assert set(read) == {*own, many.id}
    # once for the rows, which the sweep's own run tells, and once for what the child shows
    assert max(read.values()) <= 3
    parent = parent_of(client, record.id)
    statuses = {run.data.tags["rayfit.trial_id"]: run.info.status for run in _trials(client, parent)}
    assert statuses == {eight.id: "FINISHED", many.id: "FINISHED"}
    lines = parent.data.tags["mlflow.note.content"].splitlines()
    assert sum(line.startswith("| hyperfitted") for line in lines) == 2
    assert sum("PENDING" in line for line in lines) == 1
    read.clear()
    tracker.tell()
    assert not read
    tracker.stop()


def _counted(method: Any, read: Counter[str]) -> Any:
    def counted(self: Storage, *arguments: Any) -> Any:
        read[arguments[-1]] += 1
        return method(self, *arguments)

    return counted


def _trials(client: Any, parent: Any) -> list[Any]:
    return [run for run in children_of(client, parent) if "rayfit.trial_id" in run.data.tags]


def test_a_failure_is_told_with_the_record_that_names_it(storage: Storage) -> None:
    made, trial_id = launch(storage)
    record = made.begun()
    client, tracker = started(storage, record)
    tracker.tell()
    made.train(trial_with(made, 8))
    (failing,) = [each for each in record.measurements if each.kind == "comparisons"]
    tracker.changed(trial_id, msgspec.structs.replace(record, failed_measurements={failing.id: "no memory"}))
    tracker.tell()
    tracker.stop()
    run = child_of(client, parent_of(client, record.id), trial_id=trial_id)
    assert (run.info.status, run.data.tags["error"]) == ("FAILED", "no memory")


def test_finish_sends_everything_even_without_start(storage: Storage) -> None:
    record = run_of(storage).all().record()
    tracker = Tracker(storage, default_tracking_uri(storage))
    tracker.finish(record)
    client = connect(None, storage)
    parent = parent_of(client, record.id)
    assert (parent.info.status, len(children_of(client, parent))) == ("FINISHED", 4)
    assert tracker.error == "" and parent.info.run_id in tracker.place
    tracker.finish(record)
    assert tracker.error == ""


def test_what_mlflow_refuses_is_kept_as_error_until_it_takes_it(storage: Storage) -> None:
    made, trial_id = launch(storage)
    record = made.begun()
    client = connect(None, storage)
    experiment = client.create_experiment("rayfit/data_quantity", (storage.root / "mlartifacts").as_uri())
    client.delete_experiment(experiment)
    tracker = quick(storage)
    tracker.start(record)
    made.train(trial_with(made, 8))
    tracker.changed(trial_id)
    wait_for(lambda: "mlflow experiments restore" in tracker.error)
    client.restore_experiment(experiment)
    wait_for(lambda: tracker.error == "")
    wait_for(lambda: len(children_of(client, parent_of(client, record.id))) == 1)
    client.delete_experiment(experiment)
    tracker.finish(made.record())
    assert "mlflow experiments restore" in tracker.error and tracker.place == ""
    client.restore_experiment(experiment)
    tracker.finish(made.record())
    assert tracker.error == "" and tracker.place


def test_a_thread_that_ends_by_a_defect_is_not_silent(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _ = launch(storage)
    with monkeypatch.context() as patched:
        patched.setattr(sync, "trial_content", lambda *_, **__: {}["no such key"])
        tracker = quick(storage)
        tracker.start(made.begun())
        wait_for(lambda: tracker.error != "")
        assert "its thread ended early: KeyError" in tracker.error
    tracker.changed(None)
    tracker.see({})
    tracker.finish(made.all().record())
    # everything is there, and the defect is told
    assert tracker.place and not tracker.error and "its thread ended early: KeyError" in tracker.note


def test_the_driver_never_waits_for_it(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    made, trial_id = launch(storage)
    record = made.begun()
    hangs, goes_on = threading.Event(), threading.Event()

    def hanging(*_: Any, **__: Any) -> None:
        hangs.set()
        assert goes_on.wait(60)

    monkeypatch.setattr(sync, "trial_content", hanging)
    tracker = quick(storage)
    begin = time.monotonic()
    tracker.start(record)
    assert time.monotonic() - begin < 0.5
    assert hangs.wait(60)
    begin = time.monotonic()
    for point in curve():
        tracker.see(running(trial_id, point))
        tracker.changed(trial_id, record)
    assert time.monotonic() - begin < 0.5
    goes_on.set()
    tracker.stop()
