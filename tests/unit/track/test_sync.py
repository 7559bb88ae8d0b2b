from __future__ import annotations

import json
from pathlib import Path

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
        assert len(measured) == 7
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
        assert steps == [*range(0, UPDATES, 17), UPDATES]
