"""Curves that are in MLflow while training goes on."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rayfit.records.states import write_point
from rayfit.records.storage import Storage
from rayfit.track.connection import TrackingError, connect
from rayfit.track.sync import sync_sweep
from tests.finished import Finished
from tests.unit.track.reading import child_of, children_of, history, parent_of, snapshot
from tests.unit.track.sweeps import curve, launch, running, see_all, started, trial_with

CURVE = curve()


def stamp(shift: float = 0.0) -> str:
    return (datetime.now(UTC) + timedelta(seconds=shift)).isoformat(timespec="milliseconds")


def end(made: Finished, shift: float = 1.0, **changes: Any) -> None:
    """The trial's record, written by a worker whose clock is not the driver's."""
    made.train(trial_with(made, 8), **{"curve": CURVE, "finished_at": stamp(shift), **changes})


def test_a_run_grows_while_its_trial_is_trained(storage: Storage) -> None:
    made, trial_id = launch(storage, changes={"arms": {"few rows": {}}})
    record = made.begun()
    client, tracker = started(storage, record)
    tracker.see(running(trial_id, None))
    tracker.tell()
    parent = parent_of(client, record.id)
    assert (parent.info.status, children_of(client, parent)) == ("RUNNING", [])
    see_all(tracker, trial_id, CURVE[:3])
    tracker.tell()
    run = child_of(client, parent, trial_id=trial_id)
    assert (run.info.status, run.data.tags["rayfit.arm"]) == ("RUNNING", "few rows")
    assert (run.data.tags["rayfit.who"], run.data.params["samples"]) == ("trained", "8")
    see_all(tracker, trial_id, CURVE[3:5])
    tracker.tell()
    found = history(client, run)
    assert [(step, number) for step, number, _ in found["curve/train_loss"]] == [
        (point.update, point.train_loss) for point in CURVE[:5]
    ]
    # between two points of one training there are as many milliseconds as its workers measured
    times = [time for _, _, time in found["curve/train_loss"]]
    assert times[4] - times[0] == round(1000 * CURVE[4].seconds)
    tracker.stop()


def test_the_sync_after_it_writes_nothing_twice(storage: Storage) -> None:
    made, trial_id = launch(storage)
    client, tracker = started(storage, made.begun())
    see_all(tracker, trial_id, CURVE[:7])
    tracker.tell()
    early = child_of(client, parent_of(client, made.plan.sweep_id), trial_id=trial_id)
    end(made)
    tracker.see(running(trial_id, CURVE[-1], status="finished"))
    tracker.changed(trial_id)
    tracker.tell()
    for spec in made.plan.measurements:
        made.measure(spec)
    record = made.record()
    tracker.finish(record)
    run = child_of(client, parent_of(client, record.id), trial_id=trial_id)
    assert (run.info.run_id, run.info.status) == (early.info.run_id, "FINISHED")
    for column in ("train_loss", "validation_loss", "gradient_norm"):
        assert [(step, number) for step, number, _ in history(client, run)[f"curve/{column}"]] == [
            (point.update, number) for point in CURVE if (number := getattr(point, column)) is not None
        ]
    before = snapshot(client)
    assert sync_sweep(storage, record, client, finished=True).unchanged == 3
    client.delete_tag(run.info.run_id, "rayfit.written")
    sync_sweep(storage, record, client, finished=True)
    assert snapshot(client) == before


def test_a_training_that_died_and_began_anew_has_another_run(storage: Storage) -> None:
    made, trial_id = launch(storage)
    record = made.begun()
    client, tracker = started(storage, record)
    see_all(tracker, trial_id, CURVE[:4])
    tracker.tell()
    tracker.see(running(trial_id, None, status="queued"))
    slower = curve(stretched=1.5)
    see_all(tracker, trial_id, slower[:2], tries=2)
    tracker.tell()
    tracker.stop()
    parent = parent_of(client, record.id)
    old = child_of(client, parent, trial_id=trial_id, superseded="true")
    (new,) = [run for run in children_of(client, parent) if run.info.run_id != old.info.run_id]
    assert (old.info.status, new.info.status) == ("KILLED", "RUNNING")
    end(made, curve=slower)
    sync_sweep(storage, record, client)
    assert len(children_of(client, parent)) == 2
    steps = [step for step, _, _ in history(client, new)["curve/train_loss"]]
    assert steps == [point.update for point in CURVE]


@pytest.mark.parametrize("other_launch", [False, True])
def test_a_training_that_went_on_from_its_state_keeps_its_run(storage: Storage, other_launch: bool) -> None:
    made, trial_id = launch(storage)
    record = made.begun()
    client, tracker = started(storage, record)
    for point in CURVE[:4]:
        write_point(storage, trial_id, point)
    see_all(tracker, trial_id, CURVE[:4])
    tracker.tell()
    parent = parent_of(client, record.id)
    (first,) = children_of(client, parent)
    if other_launch:
        tracker.finish(made.record())
        client, tracker = started(storage, record)
    else:
        tracker.see(running(trial_id, None, status="queued"))
    # From the state after the second point; the two after it are measured once more, and keep their times.
    for place, point in enumerate(curve(stretched=1.5)):
        again = write_point(storage, trial_id, CURVE[place] if place >= 4 else point)
        assert again == CURVE[place]
    see_all(tracker, trial_id, CURVE[1:7], tries=2)
    tracker.tell()
    (run,) = children_of(client, parent)
    assert (run.info.run_id, run.info.status) == (first.info.run_id, "RUNNING")
    tracker.stop()
    end(made)
    sync_sweep(storage, record, client)
    (run,) = children_of(client, parent)
    found = history(client, run)["curve/train_loss"]
    assert [(step, number) for step, number, _ in found] == [(each.update, each.train_loss) for each in CURVE]
    assert found[5][2] - found[0][2] == round(1000 * CURVE[5].seconds)


def test_another_training_than_the_one_seen_gets_a_run_of_its_own(storage: Storage) -> None:
    made, trial_id = launch(storage)
    record = made.begun()
    client, tracker = started(storage, record)
    see_all(tracker, trial_id, curve(0, 5, 10, 15, train_loss=9.0))
    tracker.tell()
    tracker.stop()
    end(made)
    sync_sweep(storage, record, client)
    parent = parent_of(client, record.id)
    old = child_of(client, parent, trial_id=trial_id, superseded="true")
    assert [number for _, number, _ in history(client, old)["curve/train_loss"]] == [9.0] * 4
    (new,) = [run for run in children_of(client, parent) if run.info.run_id != old.info.run_id]
    assert [number for _, number, _ in history(client, new)["curve/train_loss"]] == [
        point.train_loss for point in CURVE
    ]


def test_a_failed_trial_keeps_the_curve_it_had(storage: Storage) -> None:
    made, trial_id = launch(storage)
    client, tracker = started(storage, made.begun())
    see_all(tracker, trial_id, CURVE[:4])
    tracker.tell()
    made.fail(trial_with(made, 8), "the loss is not finite", failed_at=stamp(1))
    record = made.record()
    tracker.finish(record)
    run = child_of(client, parent_of(client, record.id), trial_id=trial_id)
    assert (run.info.status, run.data.tags["error"]) == ("FAILED", "the loss is not finite")
    assert len(history(client, run)["curve/train_loss"]) == 4
    before = snapshot(client)
    sync_sweep(storage, record, client, finished=True)
    assert snapshot(client) == before


@pytest.mark.parametrize("first_seen", [False, True])
@pytest.mark.parametrize("second_seen", [False, True])
@pytest.mark.parametrize("second_fails", [False, True])
def test_a_failed_trial_that_is_tried_again_has_one_run(
    storage: Storage, first_seen: bool, second_seen: bool, second_fails: bool
) -> None:
    """Whether or not its curve was seen, which depends on how fast the machine is."""
    client = connect(None, storage)
    # the second try measures the same, at other moments
    curves = (CURVE, curve(stretched=2.0))
    for number, seen in enumerate((first_seen, second_seen)):
        made, trial_id = launch(storage)
        begun = made.begun()
        _, tracker = started(storage, begun)
        if seen:
            see_all(tracker, trial_id, curves[number][:2])
            tracker.tell()
            sync_sweep(storage, begun, client)  # while it is under way
        if number == 0 or second_fails:
            made.fail(trial_with(made, 8), f"try {number} failed", failed_at=stamp(1))
        else:
            end(made, 2, curve=curves[1])
        record = made.record()
        tracker.finish(record)
        time.sleep(1.1)  # the first failure lies in the past when the second try begins
    run = child_of(client, parent_of(client, record.id), trial_id=trial_id)
    assert "rayfit.superseded" not in run.data.tags
    if second_fails:
        assert (run.info.status, run.data.tags["error"]) == ("FAILED", "try 1 failed")
    else:
        assert run.data.tags["rayfit.trained_at"] and "error" not in run.data.tags
        steps = [step for step, _, _ in history(client, run)["curve/train_loss"]]
        assert steps == [point.update for point in CURVE]
    before = snapshot(client)
    sync_sweep(storage, record, client, finished=True)
    assert snapshot(client) == before


def test_an_interrupted_trial_is_killed_and_replaced_by_the_next(storage: Storage) -> None:
    made, trial_id = launch(storage)
    client, tracker = started(storage, made.begun())
    see_all(tracker, trial_id, CURVE[:4])
    tracker.tell()
    record = made.record()
    tracker.finish(record)
    parent = parent_of(client, record.id)
    first = child_of(client, parent, trial_id=trial_id)
    assert (first.info.status, parent.info.status) == ("KILLED", "KILLED")
    again, _ = launch(storage)
    _, tracker = started(storage, again.begun())
    see_all(tracker, trial_id, CURVE[:1])
    tracker.tell()
    tracker.stop()
    assert client.get_run(first.info.run_id).data.tags["rayfit.superseded"] == "true"
    (second,) = [run for run in children_of(client, parent) if run.info.run_id != first.info.run_id]
    assert second.info.status == "RUNNING"


def test_a_driver_that_was_killed_leaves_runs_that_a_sync_ends(storage: Storage) -> None:
    made, trial_id = launch(storage)
    record = made.begun()
    client, tracker = started(storage, record)
    see_all(tracker, trial_id, CURVE[:4])
    tracker.tell()
    tracker.stop()
    sync_sweep(storage, record, client, finished=True)
    parent = parent_of(client, record.id)
    assert (parent.info.status, child_of(client, parent, trial_id=trial_id).info.status) == (
        "KILLED",
        "KILLED",
    )


def test_a_trial_that_is_trained_again_shows_both_until_it_is_done(storage: Storage) -> None:
    first, trial_id = launch(storage)
    end(first, shift=-1)
    made, _ = launch(storage, fresh=True)
    record = made.begun()
    client, tracker = started(storage, record)
    see_all(tracker, trial_id, CURVE[:4])
    tracker.tell()
    tracker.stop()
    sync_sweep(storage, record, client)
    parent = parent_of(client, record.id)
    editions = {run.data.tags["rayfit.edition"]: run for run in children_of(client, parent)}
    assert editions.keys() == {"1", "2"}
    assert not any("rayfit.superseded" in run.data.tags for run in editions.values())
    end(made, fresh=True, digest="new weights")
    sync_sweep(storage, record, client)
    old = child_of(client, parent, trial_id=trial_id, superseded="true")
    assert old.info.run_id == editions["1"].info.run_id
    assert client.get_run(editions["2"].info.run_id).data.tags["rayfit.trained_at"]


def test_no_run_is_made_for_a_trial_that_ended_before_it_was_sent(storage: Storage) -> None:
    made, trial_id = launch(storage)
    record = made.begun()
    client, tracker = started(storage, record)
    see_all(tracker, trial_id, CURVE[:4])
    end(made)
    tracker.tell()
    tracker.stop()
    (run,) = children_of(client, parent_of(client, record.id))
    assert run.data.tags["rayfit.trained_at"]


def test_what_mlflow_did_not_take_is_sent_the_next_time(storage: Storage) -> None:
    made, trial_id = launch(storage)
    record = made.begun()
    client, tracker = started(storage, record)
    see_all(tracker, trial_id, CURVE[:2])
    tracker.tell()
    run = child_of(client, parent_of(client, record.id), trial_id=trial_id)
    client.delete_run(run.info.run_id)
    see_all(tracker, trial_id, CURVE[2:4])
    with pytest.raises(TrackingError, match="`rayfit sync` fills MLflow from them"):
        tracker.tell()
    client.restore_run(run.info.run_id)
    tracker.tell()
    tracker.stop()
    assert len(history(client, run)["curve/train_loss"]) == 4
