"""What a sync does when something is not as it was: numbers, parameters, places."""

from __future__ import annotations

import json
import shutil

import pytest

from rayfit.commands import run
from rayfit.records.storage import Storage
from rayfit.track.connection import TrackingError, connect
from rayfit.track.sync import sync_sweep
from tests.unit.track.reading import all_runs, child_of, history, parent_of
from tests.unit.track.samples import trial_id, write_all, write_evaluation, write_trial


def test_a_number_made_again_is_the_one_shown(storage: Storage) -> None:
    sweep = write_all(storage)
    client = connect(None, storage)
    sync_sweep(storage, sweep, client, finished=True)
    record = write_evaluation(storage, 8)
    # lower, and with the same time as before: MLflow alone would go on showing the higher one
    record["scores"]["ttr_last_96"]["value"] = 0.25
    storage.write("evaluations", record["id"], record)
    sync_sweep(storage, sweep, client, finished=True)
    child = child_of(client, parent_of(client, sweep["id"]), trial_id=trial_id(8))
    assert child.data.metrics["ttr_last_96"] == 0.25
    assert [value for _, value, _ in history(client, child)["ttr_last_96"]] == [0.25, pytest.approx(0.61)]


def test_a_changed_parameter_is_told_and_never_raises(storage: Storage) -> None:
    sweep = write_all(storage)
    client = connect(None, storage)
    sync_sweep(storage, sweep, client, finished=True)
    placement = {"num_workers": 2, "zero_stage": 3, "use_gpu": False, "note": "moved"}
    write_trial(storage, 8, minute=1, placement=placement)
    sync_sweep(storage, sweep, client, finished=True)
    child = child_of(client, parent_of(client, sweep["id"]), trial_id=trial_id(8))
    assert child.data.params["num_workers"] == "1"
    assert child.data.tags["rayfit.changed.num_workers"] == "2"
    assert child.data.params["note"] == "moved"


def test_the_parent_tells_the_question_the_table_and_the_launches(storage: Storage) -> None:
    sweep = write_all(storage)
    sweep["options"]["tracking_uri"] = "http://me:secret@server"
    sweep["launches"] = [
        *sweep["launches"],
        {"started_at": "2026-03-02T09:00:00+00:00", "reused": 3, "ran": 0},
    ]
    client = connect(None, storage)
    report = sync_sweep(storage, sweep, client, finished=True)
    parent = parent_of(client, sweep["id"])
    note = parent.data.tags["mlflow.note.content"]
    assert note.startswith(f"[Compare the trials]({report.place})")
    assert sweep["question"] in note
    assert "| trained | 128 | 25 | 0.051 | 0.990 | 8.20 | 1.51 | 0.690 |" in note
    assert parent.data.tags["rayfit.launches"] == "2"
    assert parent.data.metrics["truth/ttr_last_96"] == 0.665
    assert parent.data.metrics["original/ttr_last_96"] == 0.2031
    assert parent.data.metrics["trained/ttr_last_96.max"] == pytest.approx(0.69)
    assert parent.data.metrics["trials/finished"] == 3
    assert "secret" not in str(parent.data.params)
    launches = storage.root / "mlartifacts" / parent.info.run_id / "artifacts" / "launches.json"
    assert json.loads(launches.read_text()) == sweep["launches"]
    experiment = client.get_experiment(report.experiment_id)
    view = json.loads(experiment.tags[f"mlflow.sharedViewState.{report.parent_run_id}"])
    assert view["selectedColumns"][:2] == ["params.`samples`", "metrics.`train_loss`"]
    # the view's own filter, asked of MLflow
    shown = client.search_runs(
        [report.experiment_id], view["searchFilter"], order_by=[f"{view['orderByKey']} ASC"]
    )
    assert [run.data.params.get("samples") for run in shown] == [None, "8", "32", "128"]


def test_the_record_read_back_changes_nothing(storage: Storage) -> None:
    sweep = write_all(storage)
    client = connect(None, storage)
    sync_sweep(storage, sweep, client, finished=True)
    # storage sorts keys: the end of a sweep has them in another order than `rayfit sync` does
    again = storage.read("sweeps", sweep["id"])
    assert again is not None
    assert list(again["launches"][0]) != list(sweep["launches"][0])
    assert sync_sweep(storage, again, client, finished=True).unchanged == 5


def test_mlflow_can_be_filled_again_from_records(storage: Storage) -> None:
    sweep = write_all(storage)
    client = connect(None, storage)
    sync_sweep(storage, sweep, client, finished=True)
    parent = parent_of(client, sweep["id"])
    before = {run.info.run_name: history(client, run) for run in all_runs(client)}
    again = connect(f"sqlite:///{storage.root}/again/mlflow.db", storage)
    sync_sweep(storage, sweep, again, finished=True)
    assert {run.info.run_name: history(again, run) for run in all_runs(again)} == before
    assert parent_of(again, sweep["id"]).info.end_time == parent.info.end_time


def test_a_moved_storage_says_what_to_do(storage: Storage) -> None:
    sweep = write_all(storage)
    sync_sweep(storage, sweep, connect(None, storage), finished=True)
    moved = Storage(shutil.move(storage.root, storage.root.parent / "moved"))
    with pytest.raises(TrackingError, match="filled when its storage was elsewhere"):
        sync_sweep(moved, sweep, connect(None, moved), finished=True)
    assert not storage.root.exists()


def test_a_deleted_experiment_says_what_to_do(storage: Storage) -> None:
    sweep = write_all(storage)
    client = connect(None, storage)
    report = sync_sweep(storage, sweep, client, finished=True)
    client.delete_experiment(report.experiment_id)
    with pytest.raises(
        TrackingError, match=f"mlflow experiments restore --experiment-id {report.experiment_id}"
    ):
        sync_sweep(storage, sweep, client, finished=True)


def test_the_command_sends_earlier_sweeps_first_whatever_their_ids(storage: Storage) -> None:
    later = {"started_at": "2026-06-01T00:00:00.000+00:00", "finished_at": "2026-06-01T00:01:00.000+00:00"}
    first = write_all(storage)
    launches = [{**first["launches"][0], **later}]
    second = {**first, "id": "a-0123456789ab", "sweep_kind": "shuffle_seed", "launches": launches}
    second["first_trained_by"] = {trial_id(32): first["id"]}
    for sweep in (first, second):
        storage.write("sweeps", sweep["id"], sweep)
    assert storage.ids("sweeps")[0] == second["id"]
    assert run(["sync", "--storage", str(storage.root)]) == 0
    client = connect(None, storage)
    parent = parent_of(client, second["id"], "rayfit/shuffle_seed")
    child = child_of(client, parent, trial_id=trial_id(32))
    assert child.data.tags["rayfit.first_trained_by_run"] == parent_of(client, first["id"]).info.run_id
