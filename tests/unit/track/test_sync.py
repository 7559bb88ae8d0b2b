from __future__ import annotations

import json
import shutil
from pathlib import Path

import polars as pl
import pytest

from rayfit.records.storage import Storage
from rayfit.track.connection import connect
from rayfit.track.sync import sync_sweep
from tests.unit.track.reading import all_runs, artifacts, child_of, children_of, history, parent_of, snapshot
from tests.unit.track.samples import (
    UPDATES,
    curve,
    sweep_record,
    trial_id,
    write_all,
    write_evaluation,
    write_failure,
    write_trial,
)


def test_one_parent_and_a_child_per_model(storage: Storage) -> None:
    sweep = write_all(storage)
    client = connect(None, storage)
    report = sync_sweep(storage, sweep, client, finished=True)
    assert (report.created, report.updated, report.unchanged) == (5, 0, 0)
    parent = parent_of(client, sweep["id"])
    assert parent.info.run_id == report.parent_run_id
    assert parent.info.status == "FINISHED"
    children = children_of(client, parent)
    assert {run.data.tags.get("rayfit.trial_id") for run in children} == {None, *sweep["trials"]}
    assert {run.info.status for run in children} == {"FINISHED"}
    assert child_of(client, parent, original="true").info.run_name == "pydoc-1m original"


def test_a_second_sync_changes_nothing(storage: Storage) -> None:
    sweep = write_all(storage, decodings=("greedy", "nucleus:top_p=0.8,block=W1"))
    client = connect(None, storage)
    sync_sweep(storage, sweep, client, finished=True)
    before = snapshot(client)
    report = sync_sweep(storage, sweep, connect(None, storage), finished=True)
    assert (report.created, report.updated, report.unchanged) == (0, 0, 5)
    assert snapshot(client) == before


def test_a_sync_that_was_cut_off_is_completed_without_double_points(storage: Storage) -> None:
    sweep = write_all(storage)
    client = connect(None, storage)
    sync_sweep(storage, sweep, client, finished=True)
    before = snapshot(client)
    for run in all_runs(client):
        # as if the process had died before it could note what it wrote
        client.delete_tag(run.info.run_id, "rayfit.written")
        client.update_run(run.info.run_id, status="RUNNING")
    report = sync_sweep(storage, sweep, client, finished=True)
    assert (report.created, report.updated) == (0, 5)
    assert snapshot(client) == before


def test_values_read_back_are_those_of_the_records(storage: Storage) -> None:
    sweep = write_all(storage, decodings=("greedy", "nucleus:top_p=0.8"))
    client = connect(None, storage)
    sync_sweep(storage, sweep, client, finished=True)
    parent = parent_of(client, sweep["id"])
    for samples in (8, 32, 128):
        run = child_of(client, parent, trial_id=trial_id(samples))
        points = history(client, run)
        for column in (
            "train_loss",
            "validation_loss",
            "validation_entropy_nats",
            "gradient_norm",
            "batch_loss",
        ):
            expected = [
                (row["update"], row[column]) for row in curve(samples).to_dicts() if row[column] is not None
            ]
            assert [(step, value) for step, value, _ in points[f"curve/{column}"]] == expected
        assert [(step, value) for step, value, _ in points["epoch"]] == [
            (row["update"], row["epoch"]) for row in curve(samples).to_dicts()
        ]
        for entry in sweep["evaluations"]:
            if entry["trial_id"] != trial_id(samples):
                continue
            prefix = "" if entry["decoding"] == "greedy" else "nucleus:top_p_0.8/"
            record = storage.read("evaluations", entry["evaluation_id"])
            assert record is not None
            for name, score in record["scores"].items():
                # the loss on the training rows is of the weights, however texts are generated
                name = name if name.startswith("train_") else f"{prefix}{name}"
                if entry["decoding"] != "greedy" and name.startswith("train_"):
                    continue
                for key, bound in (
                    (name, "value"),
                    (f"interval/{name}.low", "low"),
                    (f"interval/{name}.high", "high"),
                ):
                    ((step, value, _),) = points[key]
                    assert (step, value) == (UPDATES, score[bound])
        assert run.data.metrics["minutes"] == 1.05
        assert run.data.metrics["overhead_seconds"] == 0.21


def test_parameters_and_provenance(storage: Storage) -> None:
    sweep = write_all(storage)
    client = connect(None, storage)
    sync_sweep(storage, sweep, client, finished=True)
    parent = parent_of(client, sweep["id"])
    for samples in (8, 32, 128):
        run = child_of(client, parent, trial_id=trial_id(samples))
        expected_params = {
            "samples": str(samples),
            "num_updates": "400",
            "epochs": str(UPDATES * 8 / samples),
            "learning_rate": "0.003",
            "batch_size": "8",
            "precision": "bf16",
            "model": "pydoc-1m",
            "sample_seed": "0",
            "order_seed": "0",
            "optimizer": "adam",
            "num_workers": "1",
            "train_text": "pydoc",
            "rows_fingerprint": f"{samples:064x}",
            "text_declared": '{"corpus": "pydoc"}',
            "use_gpu": "false",
        }
        assert expected_params.items() <= run.data.params.items()
        assert run.data.tags["mlflow.source.git.commit"].startswith("0123456789abcdef")
        assert run.data.tags["rayfit.version.torch"] == "2.13.0"
        (dataset,) = run.inputs.dataset_inputs
        assert dataset.dataset.digest == f"{samples:064x}"[:36]


def test_the_original_has_only_what_was_measured(storage: Storage) -> None:
    sweep = write_all(storage)
    client = connect(None, storage)
    sync_sweep(storage, sweep, client, finished=True)
    original = child_of(client, parent_of(client, sweep["id"]), original="true")
    points = history(client, original)
    assert [(step, value) for step, value, _ in points["ttr_last_96"]] == [(0, 0.2031)]
    assert "longest_overlap_mean" not in points
    assert "train_loss" not in points
    assert original.data.params["model"] == "pydoc-1m"


def test_artifacts(storage: Storage, tmp_path: Path) -> None:
    sweep = write_all(storage, decodings=("greedy", "nucleus:top_p=0.8"))
    client = connect(None, storage)
    sync_sweep(storage, sweep, client, finished=True)
    parent = parent_of(client, sweep["id"])
    assert sorted(artifacts(client, parent)) == ["launches.json", "plot.png", "summary.json", "table.txt"]
    run = child_of(client, parent, trial_id=trial_id(8))
    assert sorted(artifacts(client, run)) == [
        "curve.parquet",
        "evaluations/greedy.json",
        "evaluations/nucleus-top-p-0.8.json",
        "generations/greedy.parquet",
        "generations/nucleus-top-p-0.8.parquet",
        "measurements.json",
        "record.json",
    ]
    fetched = client.download_artifacts(run.info.run_id, "generations/greedy.parquet", str(tmp_path))
    assert pl.read_parquet(fetched)["generation"].to_list() == ["defines a class", "value of x"]
    record = client.download_artifacts(run.info.run_id, "record.json", str(tmp_path))
    assert json.loads(Path(record).read_text()) == storage.read("trials", trial_id(8))
    assert run.info.artifact_uri.startswith((storage.root / "mlartifacts").as_uri())


def test_only_files_that_changed_are_sent_again(storage: Storage) -> None:
    sweep = write_all(storage)
    client = connect(None, storage)
    sync_sweep(storage, sweep, client, finished=True)
    parent = parent_of(client, sweep["id"])
    place = storage.root / "mlartifacts" / parent.info.run_id / "artifacts"
    times = {path.name: path.stat().st_mtime_ns for path in place.iterdir()}
    (storage.folder("sweeps", sweep["id"]) / "table.txt").write_text("another table\n")
    report = sync_sweep(storage, sweep, client, finished=True)
    assert (report.updated, report.unchanged) == (1, 4)
    assert (place / "table.txt").read_text() == "another table\n"
    changed = {path.name for path in place.iterdir() if path.stat().st_mtime_ns != times[path.name]}
    assert changed == {"table.txt"}


def test_fresh_gives_a_new_child_and_marks_the_old_one(storage: Storage) -> None:
    sweep = write_all(storage)
    client = connect(None, storage)
    sync_sweep(storage, sweep, client, finished=True)
    parent = parent_of(client, sweep["id"])
    old = child_of(client, parent, trial_id=trial_id(8))
    write_trial(storage, 8, minute=20, edition=2)
    sync_sweep(storage, sweep, client)
    # the evaluation in storage is still of the old weights: the new child waits for its own
    new = child_of(client, parent, trial_id=trial_id(8), edition="2")
    assert new.info.status == "RUNNING"
    assert "interval/ttr_last_96.low" not in new.data.metrics
    write_evaluation(storage, 8)
    report = sync_sweep(storage, sweep, client, finished=True)
    assert report.created == 0
    new = child_of(client, parent, trial_id=trial_id(8), edition="2")
    assert new.info.status == "FINISHED"
    assert "rayfit.superseded" not in new.data.tags
    assert new.data.metrics["interval/ttr_last_96.low"] == pytest.approx(0.59)
    before = client.get_run(old.info.run_id)
    assert before.data.tags["rayfit.superseded"] == "true"
    assert before.data.tags["rayfit.superseded_by"] == new.info.run_id
    assert "rayfit.current" not in before.data.tags
    assert new.data.tags["rayfit.current"] == "true"
    assert before.info.run_name.startswith("superseded: ")
    assert history(client, before) == history(client, old)
    assert sync_sweep(storage, sweep, client, finished=True).unchanged == 5


def test_trained_again_for_a_lacking_product_keeps_curves_apart(storage: Storage) -> None:
    sweep = write_all(storage)
    client = connect(None, storage)
    sync_sweep(storage, sweep, client, finished=True)
    write_trial(storage, 8, minute=30)
    sync_sweep(storage, sweep, client, finished=True)
    parent = parent_of(client, sweep["id"])
    old = child_of(client, parent, trial_id=trial_id(8), superseded="true")
    (new,) = [
        run
        for run in children_of(client, parent)
        if run.data.tags.get("rayfit.trial_id") == trial_id(8) and run.info.run_id != old.info.run_id
    ]
    for run in (old, new):
        steps = [step for step, _, _ in history(client, run)["curve/train_loss"]]
        assert steps == list(range(0, UPDATES + 1, 20))


def test_a_failed_trial_is_finished_by_a_later_launch(storage: Storage) -> None:
    write_all(storage)
    error = "the loss is not finite at update 37"
    shutil.rmtree(storage.folder("trials", trial_id(32)))
    write_failure(storage, 32, error)
    failed = sweep_record(failed={trial_id(32): error})
    client = connect(None, storage)
    sync_sweep(storage, failed, client, finished=True)
    parent = parent_of(client, failed["id"])
    assert parent.info.status == "FAILED"
    child = child_of(client, parent, trial_id=trial_id(32))
    assert (child.info.status, child.data.tags["error"]) == ("FAILED", error)
    assert child.data.params["samples"] == "32"
    assert child_of(client, parent, trial_id=trial_id(8)).info.status == "FINISHED"

    write_trial(storage, 32, minute=40)
    write_evaluation(storage, 32)
    sync_sweep(storage, sweep_record(), client)
    assert parent_of(client, failed["id"]).info.status == "RUNNING"
    report = sync_sweep(storage, sweep_record(), client, finished=True)
    assert report.created == 0
    assert parent_of(client, failed["id"]).info.status == "FINISHED"
    child = child_of(client, parent, trial_id=trial_id(32))
    assert child.info.status == "FINISHED"
    assert "error" not in child.data.tags
    assert len(children_of(client, parent)) == 4


def test_a_failed_evaluation_fails_its_trial_and_nothing_else(storage: Storage) -> None:
    sweep = write_all(storage)
    entry = next(entry for entry in sweep["evaluations"] if entry["trial_id"] == trial_id(128))
    shutil.rmtree(storage.folder("evaluations", entry["evaluation_id"]))
    row = next(row for row in sweep["rows"] if row.get("trial_id") == trial_id(128))
    row.update(status="FAILED", reason="out of memory", ttr_last_96=None)
    client = connect(None, storage)
    sync_sweep(storage, sweep, client, finished=True)
    parent = parent_of(client, sweep["id"])
    child = child_of(client, parent, trial_id=trial_id(128))
    assert (child.info.status, child.data.tags["error"]) == ("FAILED", "out of memory")
    assert "curve/train_loss" in child.data.metrics
    assert "ttr_last_96" not in child.data.metrics
    assert parent.info.status == "FAILED"


def test_a_failure_does_not_undo_what_was_finished_before(storage: Storage) -> None:
    sweep = write_all(storage)
    sweep["failed"] = {trial_id(8): "trained again, it failed"}
    client = connect(None, storage)
    sync_sweep(storage, sweep, client, finished=True)
    parent = parent_of(client, sweep["id"])
    child = child_of(client, parent, trial_id=trial_id(8))
    assert (child.info.status, child.data.tags["rayfit.last_failure"]) == (
        "FINISHED",
        "trained again, it failed",
    )


def test_a_sweep_is_followed_while_it_runs(storage: Storage) -> None:
    client = connect(None, storage)
    sweep = sweep_record(rows=[])
    assert sync_sweep(storage, sweep, client).created == 1
    parent = parent_of(client, sweep["id"])
    assert (parent.info.status, children_of(client, parent)) == ("RUNNING", [])
    write_trial(storage, 8)
    sync_sweep(storage, sweep, client)
    child = child_of(client, parent, trial_id=trial_id(8))
    assert child.info.status == "RUNNING"
    assert child.data.metrics["curve/train_loss"] == curve(8)["train_loss"][-1]
    write_evaluation(storage, 8)
    write_evaluation(storage, None)
    sync_sweep(storage, sweep, client)
    child = child_of(client, parent, trial_id=trial_id(8))
    assert (child.info.status, child.data.metrics["ttr_last_96"]) == ("FINISHED", pytest.approx(0.61))
    assert len(children_of(client, parent)) == 2
    # Ctrl-C: two trials were never trained
    sync_sweep(storage, sweep, client, finished=True)
    assert parent_of(client, sweep["id"]).info.status == "KILLED"
    sync_sweep(storage, write_all(storage), client, finished=True)
    assert parent_of(client, sweep["id"]).info.status == "FINISHED"
    assert len(children_of(client, parent)) == 4
    for run in children_of(client, parent):
        steps = [point[0] for point in history(client, run).get("curve/train_loss", [])]
        assert len(steps) == len(set(steps))


def test_a_trial_of_two_sweeps_is_a_child_of_both(storage: Storage) -> None:
    first = write_all(storage)
    second = sweep_record(
        (32,),
        id="other-sweep-0123456789ab",
        sweep_kind="shuffle_seed",
        first_trained_by={trial_id(32): first["id"]},
    )
    client = connect(None, storage)
    sync_sweep(storage, first, client, finished=True)
    sync_sweep(storage, second, client, finished=True)
    one = child_of(client, parent_of(client, first["id"]), trial_id=trial_id(32))
    parent = parent_of(client, second["id"], "rayfit/shuffle_seed")
    other = child_of(client, parent, trial_id=trial_id(32))
    assert history(client, one) == history(client, other)
    assert one.data.params == other.data.params
    first_parent = parent_of(client, first["id"])
    assert other.data.tags["rayfit.first_trained_by"] == first["id"]
    assert other.data.tags["rayfit.first_trained_by_run"] == first_parent.info.run_id
    place = f"#/experiments/{first_parent.info.experiment_id}/runs/{first_parent.info.run_id}"
    assert f"[{first['id']}]({place})" in other.data.tags["mlflow.note.content"]
    assert "rayfit.first_trained_by" not in one.data.tags
