from __future__ import annotations

import json
from pathlib import Path

import msgspec
import polars as pl
import pytest

from rayfit.records.storage import Storage
from rayfit.records.trials import finest_curve
from rayfit.track.connection import connect
from rayfit.track.sync import sync_sweep
from tests.unit.track.reading import all_runs, artifacts, child_of, children_of, history, parent_of, snapshot
from tests.unit.track.sweeps import (
    UPDATES,
    measure_all,
    run_of,
    spec_of,
    specs_of,
    trial_with,
    write_report,
)

BLOCKED = "nucleus:top_p=0.8,block=W1"


def test_one_parent_and_a_child_per_model(storage: Storage) -> None:
    record = run_of(storage).all().record()
    client = connect(None, storage)
    report = sync_sweep(storage, record, client, finished=True)
    assert (report.created, report.updated, report.unchanged) == (5, 0, 0)
    parent = parent_of(client, record.id)
    assert parent.info.run_id == report.parent_run_id
    assert parent.info.status == "FINISHED"
    children = children_of(client, parent)
    assert {run.data.tags.get("rayfit.trial_id") for run in children} == {None, *record.trials}
    assert {run.info.status for run in children} == {"FINISHED"}
    original = child_of(client, parent, original="true")
    assert (original.info.run_name, original.data.tags["rayfit.who"]) == ("pydoc-1m original", "original")


def test_a_second_sync_changes_nothing(storage: Storage) -> None:
    record = run_of(storage, decodings=("greedy", BLOCKED)).all().record()
    client = connect(None, storage)
    sync_sweep(storage, record, client, finished=True)
    before = snapshot(client)
    report = sync_sweep(storage, record, connect(None, storage), finished=True)
    assert (report.created, report.updated, report.unchanged) == (0, 0, 5)
    assert snapshot(client) == before


def test_a_sync_that_was_cut_off_is_completed_without_double_points(storage: Storage) -> None:
    record = run_of(storage).all().record()
    client = connect(None, storage)
    sync_sweep(storage, record, client, finished=True)
    before = snapshot(client)
    for run in all_runs(client):
        # as if the process had died before it could note what it wrote
        client.delete_tag(run.info.run_id, "rayfit.written")
        client.update_run(run.info.run_id, status="RUNNING")
    report = sync_sweep(storage, record, client, finished=True)
    assert (report.created, report.updated) == (0, 5)
    assert snapshot(client) == before


def test_values_read_back_are_those_of_the_records(storage: Storage) -> None:
    made = run_of(storage, decodings=("greedy", BLOCKED)).all()
    record = made.record()
    client = connect(None, storage)
    sync_sweep(storage, record, client, finished=True)
    parent = parent_of(client, record.id)
    for trial in made.plan.trials:
        run = child_of(client, parent, trial_id=str(trial.id))
        points = history(client, run)
        trained = storage.trial(trial.id)
        assert trained is not None
        curve_file = finest_curve(storage, trained)
        assert curve_file is not None
        measured = pl.read_parquet(curve_file).to_dicts()
        assert len(measured) == 21
        for column in (
            "train_loss",
            "validation_loss",
            "validation_entropy_nats",
            "gradient_norm",
            "batch_loss",
        ):
            expected = [(row["update"], row[column]) for row in measured if row[column] is not None]
            assert [(step, value) for step, value, _ in points[f"curve/{column}"]] == expected
        assert [(step, value) for step, value, _ in points["epoch"]] == [
            (row["update"], row["epoch"]) for row in measured
        ]
        for planned in record.measurements:
            if planned.trial_id != trial.id:
                continue
            # no decoding changes what is measured without one, and plain greedy decoding is not named
            prefix = "nucleus:top_p_0.8 block_W1/" if planned.decoding == BLOCKED else ""
            found = storage.measurement(planned.kind, planned.id)
            assert found is not None
            for name, score in found.scores.items():
                for key, bound in (
                    (f"{prefix}{name}", score.value),
                    (f"interval/{prefix}{name}.low", score.low),
                    (f"interval/{prefix}{name}.high", score.high),
                ):
                    ((step, value, _),) = points[key]
                    assert (step, value) == (UPDATES, bound)
        assert run.data.metrics["minutes"] == 1.5
        assert run.data.metrics["overhead_seconds"] == 0.25
        assert run.data.metrics["train_loss_floor"] == trained.floor
        assert run.data.metrics["seconds/total"] == 90.0


def test_a_score_that_is_missing_is_no_metric(storage: Storage) -> None:
    made = run_of(storage, samples=(8,)).all()
    trial = trial_with(made, 8)
    made.measure(spec_of(made, "scores", trial), rep_4=None)
    record = made.record()
    client = connect(None, storage)
    sync_sweep(storage, record, client, finished=True)
    run = child_of(client, parent_of(client, record.id), trial_id=str(trial.id))
    assert "ttr_last_96" in run.data.metrics
    assert not any("rep_4" in key for key in run.data.metrics)


def test_parameters_and_provenance(storage: Storage) -> None:
    made = run_of(storage).all()
    record = made.record()
    client = connect(None, storage)
    sync_sweep(storage, record, client, finished=True)
    parent = parent_of(client, record.id)
    for trial in made.plan.trials:
        run = child_of(client, parent, trial_id=str(trial.id))
        trained = storage.trial(trial.id)
        assert trained is not None
        samples = trial.selection.samples
        expected_params = {
            "samples": str(samples),
            "num_updates": "100",
            "epochs": str(UPDATES * 8 / samples),
            "learning_rate": "0.001",
            "batch_size": "8",
            "precision": "bf16",
            "model": "pydoc-1m",
            "model_kind": "made",
            "sample_seed": "0",
            "order_seed": "0",
            "optimizer": "adam",
            "num_workers": "1",
            "train_text": "pydoc",
            "rows_fingerprint": trained.rows.fingerprint,
            "text_declared": json.dumps(trained.declared["rows"]["text"], sort_keys=True),
            "use_gpu": "false",
            "eval_precision": "fp32",
            "num_new_tokens": "96",
        }
        assert expected_params.items() <= run.data.params.items()
        tags = run.data.tags
        assert tags["mlflow.source.name"] == "sweeps/data_quantity.py"
        assert tags.get("mlflow.source.git.commit") == trained.git_commit
        assert tags["rayfit.version.torch"] == trained.versions["torch"]
        assert tags["rayfit.weights_sha256"] == trained.weights_sha256
        assert (tags["rayfit.who"], tags["rayfit.hyperfitted"]) == ("trained", "true")
        assert trained.command in tags["mlflow.note.content"]
        (dataset,) = run.inputs.dataset_inputs
        assert dataset.dataset.digest == trained.rows.fingerprint[:36]


def test_the_original_has_only_what_was_measured(storage: Storage) -> None:
    record = run_of(storage).all().record()
    client = connect(None, storage)
    sync_sweep(storage, record, client, finished=True)
    original = child_of(client, parent_of(client, record.id), original="true")
    points = history(client, original)
    # of the true continuations, whose scores have the same names, none
    assert [(step, value) for step, value, _ in points["ttr_last_96"]] == [(0, 0.2)]
    (row,) = [row for row in record.rows if row.who == "original"]
    assert [(step, value) for step, value, _ in points["minutes"]] == [(0, row.minutes)]
    assert "longest_overlap_mean" not in points
    assert "train_loss" not in points
    assert original.data.params["model"] == "pydoc-1m"


def test_artifacts(storage: Storage, tmp_path: Path) -> None:
    made = run_of(storage, samples=(8,), decodings=("greedy", "nucleus:top_p=0.8"))
    trial = trial_with(made, 8)
    made.all()
    made.measure(
        spec_of(made, "generations", trial, decoding="greedy"), texts=["defines a class", "value of x"]
    )
    made.measure(spec_of(made, "scores", trial, decoding="greedy"))
    record = made.record()
    write_report(storage, record)
    client = connect(None, storage)
    sync_sweep(storage, record, client, finished=True)
    parent = parent_of(client, record.id)
    assert sorted(artifacts(client, parent)) == [
        "figures/figure-1-agreement.png",
        "launches.json",
        "plot.png",
        "report.html",
        "results.csv",
        "summary.json",
        "table.txt",
    ]
    run = child_of(client, parent, trial_id=str(trial.id))
    labels = ("greedy", "nucleus-top-p-0.8")
    assert sorted(artifacts(client, run)) == sorted(
        [
            "curve.parquet",
            "measurements.json",
            "record.json",
            "comparisons/pydoc/record.json",
            *(f"predictions/pydoc/{file}" for file in ("record.json", "texts.parquet")),
            *(f"generations/{label}/{file}" for label in labels for file in ("record.json", "texts.parquet")),
            *(f"scores/{label}/{file}" for label in labels for file in ("record.json", "scores.parquet")),
        ]
    )
    fetched = client.download_artifacts(run.info.run_id, "generations/greedy/texts.parquet", str(tmp_path))
    assert pl.read_parquet(fetched)["text"].to_list()[:2] == ["defines a class", "value of x"]
    fetched = client.download_artifacts(run.info.run_id, "record.json", str(tmp_path))
    assert json.loads(Path(fetched).read_text()) == storage.read("trials", str(trial.id))
    fetched = client.download_artifacts(run.info.run_id, "measurements.json", str(tmp_path))
    listed = {entry["id"] for entry in json.loads(Path(fetched).read_text())}
    assert listed == {each.id for each in record.measurements if each.trial_id == trial.id}
    assert run.info.artifact_uri.startswith((storage.root / "mlartifacts").as_uri())
    original = artifacts(client, child_of(client, parent, original="true"))
    assert "scores/truth/scores.parquet" in original and "scores/greedy/scores.parquet" in original


def test_only_files_that_changed_are_sent_again(storage: Storage) -> None:
    record = run_of(storage).all().record()
    folder = write_report(storage, record)
    client = connect(None, storage)
    sync_sweep(storage, record, client, finished=True)
    parent = parent_of(client, record.id)
    place = storage.root / "mlartifacts" / parent.info.run_id / "artifacts"
    times = {path.name: path.stat().st_mtime_ns for path in place.iterdir() if path.is_file()}
    (folder / "table.txt").write_text("another table\n")
    report = sync_sweep(storage, record, client, finished=True)
    assert (report.updated, report.unchanged) == (1, 4)
    assert (place / "table.txt").read_text() == "another table\n"
    changed = {name for name in times if (place / name).stat().st_mtime_ns != times[name]}
    assert changed == {"table.txt"}


def test_texts_made_again_take_the_place_of_the_old(storage: Storage, tmp_path: Path) -> None:
    made = run_of(storage, samples=(8,)).all()
    trial = trial_with(made, 8)
    record = made.record()
    client = connect(None, storage)
    sync_sweep(storage, record, client, finished=True)
    run = child_of(client, parent_of(client, record.id), trial_id=str(trial.id))
    before = artifacts(client, run)
    made.measure(spec_of(made, "generations", trial), texts=["anew"])
    sync_sweep(storage, record, client)
    # until they are scored, the run waits: its scores are of the texts before
    assert client.get_run(run.info.run_id).info.status == "RUNNING"
    made.measure(spec_of(made, "scores", trial))
    assert sync_sweep(storage, record, client, finished=True).created == 0
    assert client.get_run(run.info.run_id).info.status == "FINISHED"
    assert artifacts(client, run) == before
    fetched = client.download_artifacts(run.info.run_id, "generations/greedy/texts.parquet", str(tmp_path))
    assert pl.read_parquet(fetched)["text"][0] == "anew"


def test_fresh_gives_a_new_child_and_marks_the_old_one(storage: Storage) -> None:
    made = run_of(storage).all()
    trial = trial_with(made, 8)
    record = made.record()
    client = connect(None, storage)
    sync_sweep(storage, record, client, finished=True)
    parent = parent_of(client, record.id)
    old = child_of(client, parent, trial_id=str(trial.id))
    made.train(trial, fresh=True, digest="other weights", finished_at="2026-03-01T10:20:00.000+00:00")
    sync_sweep(storage, record, client)
    # what is measured is still of the old weights: the new child waits for its own
    new = child_of(client, parent, trial_id=str(trial.id), edition="2")
    assert new.info.status == "RUNNING"
    assert "ttr_last_96" not in new.data.metrics
    measure_all(made, trial)
    record = made.record()
    report = sync_sweep(storage, record, client, finished=True)
    assert report.created == 0
    new = child_of(client, parent, trial_id=str(trial.id), edition="2")
    assert new.info.status == "FINISHED"
    assert "rayfit.superseded" not in new.data.tags
    assert new.data.metrics["interval/ttr_last_96.low"] == pytest.approx(0.58)
    before = client.get_run(old.info.run_id)
    assert before.data.tags["rayfit.superseded"] == "true"
    assert before.data.tags["rayfit.superseded_by"] == new.info.run_id
    assert "rayfit.current" not in before.data.tags
    assert new.data.tags["rayfit.current"] == "true"
    assert before.info.run_name.startswith("superseded: ")
    assert history(client, before) == history(client, old)
    assert sync_sweep(storage, record, client, finished=True).unchanged == 5


def test_trained_again_for_a_lacking_product_keeps_curves_apart(storage: Storage) -> None:
    made = run_of(storage).all()
    trial = trial_with(made, 8)
    record = made.record()
    client = connect(None, storage)
    sync_sweep(storage, record, client, finished=True)
    made.train(trial, finished_at="2026-03-01T10:30:00.000+00:00", seconds=60.0)
    sync_sweep(storage, record, client, finished=True)
    parent = parent_of(client, record.id)
    old = child_of(client, parent, trial_id=str(trial.id), superseded="true")
    (new,) = [
        run
        for run in children_of(client, parent)
        if run.data.tags.get("rayfit.trial_id") == trial.id and run.info.run_id != old.info.run_id
    ]
    for run in (old, new):
        steps = [step for step, _, _ in history(client, run)["curve/train_loss"]]
        assert steps == list(range(0, UPDATES + 1, 5))


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
