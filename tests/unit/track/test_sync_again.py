"""What a sync does when something is not as it was: numbers, parameters, places."""

from __future__ import annotations

import json
import shutil

import msgspec
import pytest

from rayfit.commands import run
from rayfit.records.storage import TRIALS, Storage
from rayfit.track.connection import TrackingError, connect
from rayfit.track.content import MAX_TEXT
from rayfit.track.parent import note
from rayfit.track.sync import sync_sweep
from tests.finished import Finished
from tests.unit.track.reading import all_runs, child_of, children_of, history, parent_of
from tests.unit.track.sweeps import measure_all, run_of, spec_of, trial_with


def test_a_number_made_again_is_the_one_shown(storage: Storage) -> None:
    made = run_of(storage).all()
    trial = trial_with(made, 8)
    record = made.record()
    client = connect(None, storage)
    sync_sweep(storage, record, client, finished=True)
    found = made.measure(spec_of(made, "scores", trial), ttr_last_96=0.25)
    # lower, and with an earlier time than before: MLflow alone would go on showing the higher one
    earlier = msgspec.structs.replace(found, finished_at="2026-03-01T10:00:00.000+00:00")
    storage.write("scores", found.id, earlier)
    sync_sweep(storage, record, client, finished=True)
    child = child_of(client, parent_of(client, record.id), trial_id=str(trial.id))
    assert child.data.metrics["ttr_last_96"] == 0.25
    assert [value for _, value, _ in history(client, child)["ttr_last_96"]] == [0.25, pytest.approx(0.6)]


def test_a_changed_parameter_is_told_and_never_raises(storage: Storage) -> None:
    made = run_of(storage).all()
    trial = trial_with(made, 8)
    record = made.record()
    client = connect(None, storage)
    sync_sweep(storage, record, client, finished=True)
    trained = storage.trial(trial.id)
    assert trained is not None
    placement = msgspec.structs.replace(trained.placement, num_workers=2, zero_stage=3, note="moved")
    storage.write(TRIALS, trained.id, msgspec.structs.replace(trained, placement=placement))
    sync_sweep(storage, record, client, finished=True)
    child = child_of(client, parent_of(client, record.id), trial_id=str(trial.id))
    assert child.data.params["num_workers"] == "1"
    assert child.data.tags["rayfit.changed.num_workers"] == "2"
    assert child.data.params["note"] == "moved"


def told_sweep(storage: Storage) -> Finished:
    """A sweep whose trials differ in their scores, launched a second time for nothing."""
    address = "http://me:secret@server"
    made = run_of(storage, tracking_uri=address)
    for trial, ttr in zip(made.plan.trials, (0.61, 0.65, 0.69), strict=True):
        made.train(trial)
        for spec in made.plan.measurements:
            if spec.trial == trial:
                changed = {"ttr_last_96": ttr} if spec.kind == "scores" else {}
                made.measure(spec, **changed)
    measure_all(made, None)
    made.record()
    return run_of(storage, tracking_uri=address)


def test_the_parent_tells_the_question_the_table_and_the_launches(storage: Storage) -> None:
    record = told_sweep(storage).record()
    assert len(record.launches) == 2
    client = connect(None, storage)
    report = sync_sweep(storage, record, client, finished=True)
    parent = parent_of(client, record.id)
    told = parent.data.tags["mlflow.note.content"]
    assert told.startswith(f"[Compare the trials]({report.place})")
    assert record.question in told and record.source in told
    (line,) = [line for line in told.splitlines() if "128" in line and line.startswith("|")]
    assert "0.69" in line
    assert parent.data.tags["rayfit.launches"] == "2"
    assert parent.data.metrics["truth/ttr_last_96"] == 0.66
    assert parent.data.metrics["original/ttr_last_96"] == 0.2
    assert parent.data.metrics["trained/ttr_last_96.min"] == 0.61
    assert parent.data.metrics["trained/ttr_last_96.max"] == 0.69
    counts = {
        name: parent.data.metrics[f"trials/{name}"]
        for name in ("declared", "finished", "hyperfitted", "failed")
    }
    assert counts == {"declared": 3, "finished": 3, "hyperfitted": 3, "failed": 0}
    assert "secret" not in str(parent.data.params) + str(parent.data.tags)
    launches = storage.root / "mlartifacts" / parent.info.run_id / "artifacts" / "launches.json"
    assert json.loads(launches.read_text()) == [msgspec.to_builtins(launch) for launch in record.launches]


def test_a_long_table_is_cut_and_what_is_left_out_counted(storage: Storage) -> None:
    record = told_sweep(storage).record()
    rows = [
        msgspec.structs.replace(row, trial_id=f"{row.trial_id} {number}", samples=number + 1)
        for number in range(100)
        for row in record.rows
        if row.who == "trained"
    ]
    text = note(msgspec.structs.replace(record, rows=tuple(rows)))
    shown = sum(line.startswith("| hyperfitted") for line in text.splitlines())
    assert len(text) < MAX_TEXT and 20 < shown < len(rows)
    assert f"and {len(rows) - shown} more rows" in text


def test_one_link_opens_the_comparison(storage: Storage) -> None:
    record = told_sweep(storage).record()
    client = connect(None, storage)
    report = sync_sweep(storage, record, client, finished=True)
    experiment = client.get_experiment(report.experiment_id)
    view = json.loads(experiment.tags[f"mlflow.sharedViewState.{report.parent_run_id}"])
    assert view["selectedColumns"][:2] == ["params.`samples`", "metrics.`train_loss`"]
    # the view's own filter, asked of MLflow
    shown = client.search_runs(
        [report.experiment_id], view["searchFilter"], order_by=[f"{view['orderByKey']} ASC"]
    )
    assert [run.data.params.get("samples") for run in shown] == [None, "8", "32", "128"]


def test_the_record_read_back_changes_nothing(storage: Storage) -> None:
    record = run_of(storage).all().record()
    client = connect(None, storage)
    sync_sweep(storage, record, client, finished=True)
    # storage sorts keys: the end of a sweep has them in another order than `rayfit sync` does
    again = storage.sweep(record.id)
    assert again is not None
    assert list(again.options) != list(record.options)
    assert sync_sweep(storage, again, client, finished=True).unchanged == 5


def test_mlflow_can_be_filled_again_from_records(storage: Storage) -> None:
    record = run_of(storage).all().record()
    client = connect(None, storage)
    sync_sweep(storage, record, client, finished=True)
    parent = parent_of(client, record.id)
    before = {run.info.run_name: history(client, run) for run in all_runs(client)}
    again = connect(f"sqlite:///{storage.root}/again/mlflow.db", storage)
    sync_sweep(storage, record, again, finished=True)
    assert {run.info.run_name: history(again, run) for run in all_runs(again)} == before
    assert parent_of(again, record.id).info.end_time == parent.info.end_time


def test_a_moved_storage_says_what_to_do(storage: Storage) -> None:
    record = run_of(storage).all().record()
    sync_sweep(storage, record, connect(None, storage), finished=True)
    moved = Storage(shutil.move(storage.root, storage.root.parent / "moved"))
    with pytest.raises(TrackingError, match="filled when its storage was elsewhere"):
        sync_sweep(moved, record, connect(None, moved), finished=True)
    assert not storage.root.exists()


def test_a_deleted_experiment_says_what_to_do(storage: Storage) -> None:
    record = run_of(storage).all().record()
    client = connect(None, storage)
    report = sync_sweep(storage, record, client, finished=True)
    client.delete_experiment(report.experiment_id)
    with pytest.raises(
        TrackingError, match=f"mlflow experiments restore --experiment-id {report.experiment_id}"
    ):
        sync_sweep(storage, record, client, finished=True)


def test_the_command_sends_earlier_sweeps_first_whatever_their_ids(
    storage: Storage, capsys: pytest.CaptureFixture[str]
) -> None:
    first = run_of(storage).all().record()
    later = run_of(storage, changes={"kind": "a_kind"}, samples=(32,))
    second = Finished(storage, later.plan, started_at="2026-06-01T00:00:00.000+00:00").record()
    assert storage.ids("sweeps")[0] == second.id
    assert run(["sync", "--storage", str(storage.root)]) == 0
    assert f"{first.id}: 5 runs created, 0 updated, 0 unchanged" in capsys.readouterr().out
    client = connect(None, storage)
    parent = parent_of(client, second.id, "rayfit/a_kind")
    child = child_of(client, parent, trial_id=str(trial_with(later, 32).id))
    assert child.data.tags["rayfit.first_trained_by_run"] == parent_of(client, first.id).info.run_id


def test_the_command_places_a_sweep_whose_driver_was_killed(storage: Storage) -> None:
    made = run_of(storage)
    record = made.begun()
    trial = trial_with(made, 8)
    made.train(trial)
    measure_all(made, None, trial)
    assert run(["sync", record.id, "--storage", str(storage.root)]) == 0
    client = connect(None, storage)
    parent = parent_of(client, record.id)
    assert parent.info.status == "KILLED"
    assert {run.info.status for run in children_of(client, parent)} == {"FINISHED"}
    # its rows are those of now
    assert parent.data.metrics["trained/ttr_last_96.max"] == 0.6
    assert parent.data.metrics["trials/finished"] == 1
