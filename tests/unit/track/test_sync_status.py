"""How runs end: finished, failed, interrupted, or first trained by another sweep."""

from __future__ import annotations

import msgspec
import pytest

from rayfit.records.storage import Storage
from rayfit.track.connection import connect
from rayfit.track.sync import sync_sweep
from tests.unit.track.reading import child_of, children_of, history, parent_of
from tests.unit.track.sweeps import measure_all, run_of, spec_of, specs_of, trial_with


def test_a_failed_trial_is_finished_by_a_later_launch(storage: Storage) -> None:
    made = run_of(storage)
    eight, failing, many = (trial_with(made, samples) for samples in (8, 32, 128))
    for trial in (eight, many):
        made.train(trial)
    measure_all(made, None, eight, many)
    error = "the loss is not finite at update 37"
    made.fail(failing, error)
    record = made.record()
    client = connect(None, storage)
    sync_sweep(storage, record, client, finished=True)
    parent = parent_of(client, record.id)
    assert parent.info.status == "FAILED"
    child = child_of(client, parent, trial_id=str(failing.id))
    assert (child.info.status, child.data.tags["error"]) == ("FAILED", error)
    assert (child.data.params["samples"], child.data.params["train_text"]) == ("32", "pydoc")
    assert child_of(client, parent, trial_id=str(eight.id)).info.status == "FINISHED"
    assert parent.data.metrics["trials/failed"] == 1

    again = run_of(storage)
    again.train(failing, finished_at="2030-01-01T00:00:00.000+00:00")
    measure_all(again, failing)
    sync_sweep(storage, again.begun(), client)
    assert parent_of(client, record.id).info.status == "RUNNING"
    report = sync_sweep(storage, again.record(), client, finished=True)
    assert report.created == 0
    assert parent_of(client, record.id).info.status == "FINISHED"
    child = child_of(client, parent, trial_id=str(failing.id))
    assert child.info.status == "FINISHED"
    assert "error" not in child.data.tags
    assert len(children_of(client, parent)) == 4


@pytest.mark.parametrize("kind", ["predictions", "generations", "scores", "comparisons"])
def test_a_failed_measurement_fails_its_trial_and_nothing_else(storage: Storage, kind: str) -> None:
    made = run_of(storage, samples=(8, 32))
    for trial in made.plan.trials:
        made.train(trial)
    failing = spec_of(made, kind, trial_with(made, 32))
    for spec in made.plan.measurements:
        if spec.id == failing.id:
            made.fail_measuring(spec, "out of memory")
        elif failing.id not in {each.id for each in spec.inputs}:
            made.measure(spec)
    record = made.record()
    client = connect(None, storage)
    sync_sweep(storage, record, client, finished=True)
    parent = parent_of(client, record.id)
    child = child_of(client, parent, trial_id=str(trial_with(made, 32).id))
    assert (child.info.status, child.data.tags["error"]) == ("FAILED", f"{kind}: out of memory")
    assert "curve/train_loss" in child.data.metrics
    assert not storage.measurement(kind, failing.id)
    assert child_of(client, parent, trial_id=str(trial_with(made, 8).id)).info.status == "FINISHED"
    assert parent.info.status == "FAILED"


def test_a_failure_of_the_true_continuations_is_told_by_their_model(storage: Storage) -> None:
    made = run_of(storage, samples=(8,))
    made.train(trial_with(made, 8))
    for spec in made.plan.measurements:
        if spec.who == "truth":
            made.fail_measuring(spec, "no disk")
        else:
            made.measure(spec)
    client = connect(None, storage)
    sync_sweep(storage, made.record(), client, finished=True)
    original = child_of(client, parent_of(client, made.plan.sweep_id), original="true")
    assert (original.info.status, original.data.tags["error"]) == ("FAILED", "scores: no disk")


def test_a_failure_does_not_undo_what_was_finished_before(storage: Storage) -> None:
    made = run_of(storage).all()
    trial = trial_with(made, 8)
    made.fail(trial, "trained again, it failed")
    record = made.record()
    client = connect(None, storage)
    sync_sweep(storage, record, client, finished=True)
    child = child_of(client, parent_of(client, record.id), trial_id=str(trial.id))
    assert (child.info.status, child.data.tags["rayfit.last_failure"]) == (
        "FINISHED",
        "trained again, it failed",
    )


def test_a_sweep_is_followed_while_it_runs(storage: Storage) -> None:
    client = connect(None, storage)
    made = run_of(storage)
    record = made.begun()
    assert sync_sweep(storage, record, client).created == 1
    parent = parent_of(client, record.id)
    assert (parent.info.status, children_of(client, parent)) == ("RUNNING", [])
    trial = trial_with(made, 8)
    trained = made.train(trial)
    sync_sweep(storage, record, client)
    child = child_of(client, parent, trial_id=str(trial.id))
    assert child.info.status == "RUNNING"
    assert child.data.metrics["curve/train_loss"] == trained.final.train_loss
    measure_all(made, None, trial)
    sync_sweep(storage, record, client)
    child = child_of(client, parent, trial_id=str(trial.id))
    assert (child.info.status, child.data.metrics["ttr_last_96"]) == ("FINISHED", pytest.approx(0.6))
    assert len(children_of(client, parent)) == 2
    # what is known by now is in the sweep's own note, where the record's rows have no numbers yet
    assert "| 0.600 |" in parent_of(client, record.id).data.tags["mlflow.note.content"]
    # Ctrl-C: two trials were never trained
    sync_sweep(storage, made.record(), client, finished=True)
    assert parent_of(client, record.id).info.status == "KILLED"
    sync_sweep(storage, made.all().record(), client, finished=True)
    assert parent_of(client, record.id).info.status == "FINISHED"
    assert len(children_of(client, parent)) == 4
    for run in children_of(client, parent):
        steps = [point[0] for point in history(client, run).get("curve/train_loss", [])]
        assert len(steps) == len(set(steps))


def test_a_trial_of_two_sweeps_is_a_child_of_both(storage: Storage) -> None:
    first = run_of(storage).all().record()
    other = run_of(storage, changes={"kind": "shuffle_seed"}, samples=(32,))
    second = other.record()
    trial_id = str(trial_with(other, 32).id)
    assert second.first_trained_by == {trial_id: first.id}
    client = connect(None, storage)
    sync_sweep(storage, first, client, finished=True)
    sync_sweep(storage, second, client, finished=True)
    first_parent = parent_of(client, first.id)
    one = child_of(client, first_parent, trial_id=trial_id)
    parent = parent_of(client, second.id, "rayfit/shuffle_seed")
    both = child_of(client, parent, trial_id=trial_id)
    assert history(client, one) == history(client, both)
    assert one.data.params == both.data.params
    assert both.data.tags["rayfit.first_trained_by"] == first.id
    assert both.data.tags["rayfit.first_trained_by_run"] == first_parent.info.run_id
    place = f"#/experiments/{first_parent.info.experiment_id}/runs/{first_parent.info.run_id}"
    assert f"[{first.id}]({place})" in both.data.tags["mlflow.note.content"]
    assert "rayfit.first_trained_by" not in one.data.tags


def test_a_sweep_whose_driver_was_killed_is_placed_by_what_is_there(storage: Storage) -> None:
    made = run_of(storage)
    done, begun, missing = (trial_with(made, samples) for samples in (8, 32, 128))
    record = made.begun()
    made.train(done)
    made.train(begun)
    measure_all(made, None, done)
    made.measure(specs_of(made, "predictions", begun)[0])
    client = connect(None, storage)
    assert sync_sweep(storage, record, client, finished=True).created == 4
    parent = parent_of(client, record.id)
    assert parent.info.status == "KILLED"
    assert parent.info.end_time is not None
    statuses = {run.data.tags.get("rayfit.trial_id"): run.info.status for run in children_of(client, parent)}
    assert statuses == {None: "FINISHED", done.id: "FINISHED", begun.id: "KILLED"}
    assert missing.id not in statuses
    record = msgspec.structs.replace(record, failed={str(missing.id): "no memory"})
    made.fail(missing, "no memory")
    sync_sweep(storage, record, client, finished=True)
    assert parent_of(client, record.id).info.status == "FAILED"
