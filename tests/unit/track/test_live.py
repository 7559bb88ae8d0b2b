"""Curves that are in MLflow while training goes on."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from rayfit.records.storage import Storage
from rayfit.track.connection import TrackingError, connect
from rayfit.track.live import LiveCurves
from rayfit.track.sync import sync_sweep
from tests.unit.track.reading import all_runs, child_of, children_of, history, parent_of, snapshot
from tests.unit.track.samples import (
    curve,
    sweep_record,
    trial_id,
    write_evaluation,
    write_failure,
    write_report,
    write_trial,
)

CURVE = curve(8).to_dicts()


def running(point: dict[str, Any] | None, tries: int = 1, status: str = "running") -> dict[str, Any]:
    return {trial_id(8): {"status": status, "tries": tries, "last_point": point, "error": ""}}


def started(storage: Storage, sweep: dict[str, Any]) -> tuple[Any, LiveCurves]:
    """Live curves that send only when they are told to."""
    client = connect(None, storage)
    live = LiveCurves(storage, client, every_seconds=3600)
    live.start(sweep)
    return client, live


def see_all(live: LiveCurves, points: list[dict[str, Any]], tries: int = 1) -> None:
    for point in points:
        live.see(running(point, tries))
        live.see(running(point, tries))  # the queue says a point until there is another


def stamp(shift: float = 0.0) -> str:
    return (datetime.now(UTC) + timedelta(seconds=shift)).isoformat(timespec="milliseconds")


def finish(storage: Storage, shift: float = 1.0) -> None:
    """The trial's record, written by a worker whose clock is not the driver's."""
    write_trial(storage, 8, started_at=stamp(-60), finished_at=stamp(shift))


def test_a_run_grows_while_its_trial_is_trained(storage: Storage) -> None:
    sweep = sweep_record((8,), arms={"few rows": [trial_id(8)]})
    client, live = started(storage, sweep)
    live.see(running(None))
    live.send()
    assert client.get_experiment_by_name("rayfit/data_quantity") is None
    see_all(live, CURVE[:3])
    live.send()
    parent = parent_of(client, sweep["id"])
    run = child_of(client, parent, trial_id=trial_id(8))
    assert (run.info.status, run.data.tags["rayfit.arm"]) == ("RUNNING", "few rows")
    assert run.data.params["samples"] == "8"
    see_all(live, CURVE[3:5])
    live.send()
    found = history(client, run)
    assert [(step, number) for step, number, _ in found["curve/train_loss"]] == [
        (row["update"], row["train_loss"]) for row in CURVE[:5]
    ]
    # between two points of one training there are as many milliseconds as its workers measured
    times = [time for _, _, time in found["curve/train_loss"]]
    assert times[4] - times[0] == round(1000 * CURVE[4]["seconds"])
    live.close()


def test_the_sync_after_it_writes_nothing_twice(storage: Storage) -> None:
    sweep = sweep_record((8,))
    client, live = started(storage, sweep)
    see_all(live, CURVE[:7])
    live.send()
    early = child_of(client, parent_of(client, sweep["id"]), trial_id=trial_id(8))
    finish(storage)
    live.see(running(CURVE[-1], status="finished"))
    live.send()
    live.close()
    sync_sweep(storage, sweep, client)
    write_evaluation(storage, None)
    write_evaluation(storage, 8)
    write_report(storage, sweep)
    sync_sweep(storage, sweep, client, finished=True)
    run = child_of(client, parent_of(client, sweep["id"]), trial_id=trial_id(8))
    assert (run.info.run_id, run.info.status) == (early.info.run_id, "FINISHED")
    for column in ("train_loss", "validation_loss", "gradient_norm"):
        assert [(step, number) for step, number, _ in history(client, run)[f"curve/{column}"]] == [
            (row["update"], row[column]) for row in CURVE
        ]
    before = snapshot(client)
    assert sync_sweep(storage, sweep, client, finished=True).unchanged == 3
    client.delete_tag(run.info.run_id, "rayfit.written")
    sync_sweep(storage, sweep, client, finished=True)
    assert snapshot(client) == before


def test_a_training_that_died_and_began_anew_has_another_run(storage: Storage) -> None:
    sweep = sweep_record((8,))
    client, live = started(storage, sweep)
    see_all(live, CURVE[:4])
    live.send()
    live.see(running(None, status="queued"))
    slower = [{**row, "seconds": row["seconds"] * 1.5 + 0.1} for row in CURVE]
    see_all(live, slower[:2], tries=2)
    live.send()
    live.close()
    parent = parent_of(client, sweep["id"])
    old = child_of(client, parent, trial_id=trial_id(8), superseded="true")
    (new,) = [run for run in children_of(client, parent) if run.info.run_id != old.info.run_id]
    assert (old.info.status, new.info.status) == ("KILLED", "RUNNING")
    record = write_trial(storage, 8, started_at=stamp(-60), finished_at=stamp(1))
    path = storage.folder("trials", trial_id(8)) / record["products"]["curve-every20-validation64"]
    pl.DataFrame(slower).write_parquet(path)
    sync_sweep(storage, sweep, client)
    assert len(children_of(client, parent)) == 2
    steps = [step for step, _, _ in history(client, new)["curve/train_loss"]]
    assert steps == [row["update"] for row in CURVE]


def test_another_training_than_the_one_seen_gets_a_run_of_its_own(storage: Storage) -> None:
    sweep = sweep_record((8,))
    client, live = started(storage, sweep)
    see_all(live, [{**row, "train_loss": 9.0} for row in CURVE[:4]])
    live.send()
    live.close()
    finish(storage)
    sync_sweep(storage, sweep, client)
    parent = parent_of(client, sweep["id"])
    old = child_of(client, parent, trial_id=trial_id(8), superseded="true")
    assert [number for _, number, _ in history(client, old)["curve/train_loss"]] == [9.0] * 4
    (new,) = [run for run in children_of(client, parent) if run.info.run_id != old.info.run_id]
    assert [number for _, number, _ in history(client, new)["curve/train_loss"]] == [
        row["train_loss"] for row in CURVE
    ]


def test_a_failed_trial_keeps_the_curve_it_had(storage: Storage) -> None:
    sweep = sweep_record((8,))
    client, live = started(storage, sweep)
    see_all(live, CURVE[:4])
    live.send()
    live.close()
    write_failure(storage, 8, "the loss is not finite", failed_at=stamp(1))
    sweep["failed"] = {trial_id(8): "the loss is not finite"}
    sync_sweep(storage, sweep, client, finished=True)
    run = child_of(client, parent_of(client, sweep["id"]), trial_id=trial_id(8))
    assert (run.info.status, run.data.tags["error"]) == ("FAILED", "the loss is not finite")
    assert len(history(client, run)["curve/train_loss"]) == 4
    before = snapshot(client)
    sync_sweep(storage, sweep, client, finished=True)
    assert snapshot(client) == before


@pytest.mark.parametrize("first_seen", [False, True])
@pytest.mark.parametrize("second_seen", [False, True])
@pytest.mark.parametrize("second_fails", [False, True])
def test_a_failed_trial_that_is_tried_again_has_one_run(
    storage: Storage, first_seen: bool, second_seen: bool, second_fails: bool
) -> None:
    """Whether or not its curve was seen, which depends on how fast the machine is."""
    sweep = sweep_record((8,))
    client = connect(None, storage)
    for number, seen in enumerate((first_seen, second_seen)):
        _, live = started(storage, sweep)
        if seen:
            # the second try measures the same, at other moments
            see_all(live, [{**row, "seconds": row["seconds"] * (1 + number)} for row in CURVE[:2]])
            live.send()
            sync_sweep(storage, sweep, client)  # while it is under way
        live.close()
        if number == 0 or second_fails:
            write_failure(storage, 8, f"try {number} failed", failed_at=stamp(1))
            sweep["failed"] = {trial_id(8): f"try {number} failed"}
        else:
            record = write_trial(storage, 8, started_at=stamp(-60), finished_at=stamp(2))
            path = storage.folder("trials", trial_id(8)) / record["products"]["curve-every20-validation64"]
            pl.DataFrame([{**row, "seconds": row["seconds"] * 2} for row in CURVE]).write_parquet(path)
            sweep["failed"] = {}
            (storage.folder("trials", trial_id(8)) / "failure.json").unlink()
        sync_sweep(storage, sweep, client, finished=True)
        time.sleep(1.1)  # the first failure lies in the past when the second try begins
    run = child_of(client, parent_of(client, sweep["id"]), trial_id=trial_id(8))
    assert "rayfit.superseded" not in run.data.tags
    if second_fails:
        assert (run.info.status, run.data.tags["error"]) == ("FAILED", "try 1 failed")
    else:
        assert run.data.tags["rayfit.trained_at"] and "error" not in run.data.tags
        steps = [step for step, _, _ in history(client, run)["curve/train_loss"]]
        assert steps == [row["update"] for row in CURVE]
    before = snapshot(client)
    sync_sweep(storage, sweep, client, finished=True)
    assert snapshot(client) == before


def test_an_interrupted_trial_is_killed_and_replaced_by_the_next(storage: Storage) -> None:
    sweep = sweep_record((8,))
    client, live = started(storage, sweep)
    see_all(live, CURVE[:4])
    live.send()
    live.close()
    sync_sweep(storage, sweep, client, finished=True)
    parent = parent_of(client, sweep["id"])
    first = child_of(client, parent, trial_id=trial_id(8))
    assert first.info.status == "KILLED"
    _, again = started(storage, sweep)
    see_all(again, CURVE[:1])
    again.send()
    again.close()
    assert client.get_run(first.info.run_id).data.tags["rayfit.superseded"] == "true"
    (second,) = [run for run in children_of(client, parent) if run.info.run_id != first.info.run_id]
    assert second.info.status == "RUNNING"


def test_a_trial_that_is_trained_again_shows_both_until_it_is_done(storage: Storage) -> None:
    sweep = sweep_record((8,))
    finish(storage, shift=-1)
    client, live = started(storage, {**sweep, "options": {**sweep["options"], "fresh": True}})
    see_all(live, CURVE[:4])
    live.send()
    live.close()
    sync_sweep(storage, sweep, client)
    parent = parent_of(client, sweep["id"])
    editions = {run.data.tags["rayfit.edition"]: run for run in children_of(client, parent)}
    assert editions.keys() == {"1", "2"}
    assert not any("rayfit.superseded" in run.data.tags for run in editions.values())
    write_trial(storage, 8, edition=2, started_at=stamp(-60), finished_at=stamp(1))
    sync_sweep(storage, sweep, client)
    old = child_of(client, parent, trial_id=trial_id(8), superseded="true")
    assert old.info.run_id == editions["1"].info.run_id
    assert client.get_run(editions["2"].info.run_id).data.tags["rayfit.trained_at"]


def test_no_run_is_made_for_a_trial_that_ended_before_it_was_sent(storage: Storage) -> None:
    sweep = sweep_record((8,))
    client, live = started(storage, sweep)
    see_all(live, CURVE[:4])
    finish(storage)
    live.send()
    live.close()
    (run,) = children_of(client, parent_of(client, sweep["id"]))
    assert run.data.tags["rayfit.trained_at"]


def test_what_mlflow_did_not_take_is_sent_the_next_time(storage: Storage, tmp_path: Path) -> None:
    sweep = sweep_record((8,))
    client, live = started(storage, sweep)
    see_all(live, CURVE[:2])
    live.send()
    experiment = client.get_experiment_by_name("rayfit/data_quantity").experiment_id
    run = child_of(client, parent_of(client, sweep["id"]), trial_id=trial_id(8))
    client.delete_run(run.info.run_id)
    see_all(live, CURVE[2:4])
    with pytest.raises(TrackingError, match="`rayfit sync` fills MLflow from them"):
        live.send()
    client.restore_run(run.info.run_id)
    live.send()
    live.close()
    assert client.get_experiment(experiment).lifecycle_stage == "active"
    assert len(history(client, run)["curve/train_loss"]) == 4


def test_points_are_sent_without_being_asked_for(storage: Storage) -> None:
    sweep = sweep_record((8,))
    client = connect(None, storage)
    live = LiveCurves(storage, client, every_seconds=0.05)
    live.start(sweep)
    begin = time.monotonic()
    see_all(live, CURVE[:4])
    assert time.monotonic() - begin < 0.05  # nothing is sent here
    trials: list[Any] = []
    while not trials:
        assert time.monotonic() - begin < 60
        time.sleep(0.05)
        if client.get_experiment_by_name("rayfit/data_quantity"):
            trials = [run for run in all_runs(client) if "rayfit.trial_id" in run.data.tags]
    live.close()
    live.close()
    assert live.error == ""
    assert len(history(client, client.get_run(trials[0].info.run_id))["curve/train_loss"]) == 4
