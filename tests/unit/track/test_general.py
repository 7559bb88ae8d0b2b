"""Sweeps of several models, domains and arms, with weights kept along training and matched originals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from rayfit.records.storage import Storage
from rayfit.track.connection import connect
from rayfit.track.sync import sync_sweep
from tests.unit.track.general import (
    COMPARED,
    PREDICTED,
    TEXT_SCORES,
    Shape,
    general_record,
    trial_ids,
    value,
    write_evaluated,
    write_general,
    write_trained,
)
from tests.unit.track.reading import artifacts, child_of, children_of, history, parent_of, snapshot
from tests.unit.track.samples import UPDATES, curve

TRIAL = trial_ids(Shape(), "pydoc-1m")[0]


def final_and_kept(points: list[tuple[int, float, int]]) -> dict[int, float]:
    assert len({step for step, _, _ in points}) == len(points)
    return {step: number for step, number, _ in points}


@pytest.fixture(scope="module")
def synced(
    tmp_path_factory: pytest.TempPathFactory, empty_database: Path
) -> tuple[MlflowClient, Run, Storage]:
    """For tests that only read: the sweep in MLflow, its parent run."""
    root = tmp_path_factory.mktemp("general")
    shutil.copyfile(empty_database, root / "mlflow.db")
    storage = Storage(root)
    sweep = write_general(storage)
    client = connect(None, storage)
    sync_sweep(storage, sweep, client, finished=True)
    return client, parent_of(client, sweep["id"]), storage


def test_every_model_has_an_original_of_its_own(synced: tuple[MlflowClient, Run, Storage]) -> None:
    client, parent, _ = synced
    assert len(children_of(client, parent)) == 2 + 4
    for model in ("pydoc-1m", "pydoc-2m"):
        run = child_of(client, parent, original="true", model=model)
        assert (run.info.run_name, run.info.status) == (f"{model} original", "FINISHED")
        found = {key: final_and_kept(points) for key, points in history(client, run).items()}
        assert found["code/ttr_last_96"] == {0: value(f"{model}-greedy-code", "ttr_last_96")}
        assert found["nucleus/docs/rep_4"] == {0: value(f"{model}-nucleus-docs", "rep_4")}
        assert found["docs/validation_loss"] == {0: value(f"{model}-on-docs", "validation_loss")}
        assert not any("matched" in key or "further" in key for key in found)


def test_scores_of_kept_weights_are_curves_that_end_at_the_final_weights(
    synced: tuple[MlflowClient, Run, Storage],
) -> None:
    client, parent, _ = synced
    run = child_of(client, parent, trial_id=TRIAL)
    points = history(client, run)
    for prefix, decoding in (("", "greedy"), ("nucleus/", "nucleus")):
        for domain in ("code", "docs"):
            for name in TEXT_SCORES:
                assert final_and_kept(points[f"{prefix}{domain}/{name}"]) == {
                    100: value(f"{TRIAL}-at100-{decoding}-{domain}", name),
                    200: value(f"{TRIAL}-at200-{decoding}-{domain}", name),
                    UPDATES: value(f"{TRIAL}-{decoding}-{domain}", name),
                }
                # the interval is of the final weights alone, and of the usual contexts
                low = points[f"interval/{prefix}{domain}/{name}.low"]
                final = value(f"{TRIAL}-{decoding}-{domain}", name)
                assert final_and_kept(low) == {UPDATES: pytest.approx(final - 0.1)}
    assert run.data.metrics["code/ttr_last_96"] == value(f"{TRIAL}-greedy-code", "ttr_last_96")


def test_what_no_decoding_changes_stands_once_per_domain(synced: tuple[MlflowClient, Run, Storage]) -> None:
    client, parent, _ = synced
    points = history(client, child_of(client, parent, trial_id=TRIAL))
    for name in PREDICTED:
        assert final_and_kept(points[f"docs/{name}"]) == {
            100: value(f"{TRIAL}-at100-on-docs", name),
            200: value(f"{TRIAL}-at200-on-docs", name),
            UPDATES: value(f"{TRIAL}-on-docs", name),
        }
        assert {key for key in points if key.endswith(f"/{name}") and "interval" not in key} - {
            "pooled/entropy_nats"
        } == {f"code/{name}", f"docs/{name}", f"curve/{name}"} & points.keys()


def test_a_matched_original_and_the_comparison_belong_to_the_trial(
    synced: tuple[MlflowClient, Run, Storage],
) -> None:
    client, parent, _ = synced
    points = history(client, child_of(client, parent, trial_id=TRIAL))
    for name in TEXT_SCORES:
        expected = value(f"pydoc-1m-matched-{TRIAL}-docs", name)
        assert final_and_kept(points[f"original_matched/docs/{name}"]) == {UPDATES: expected}
    assert not any(f"original_matched/docs/{name}" in points for name in PREDICTED)
    for name in COMPARED:
        expected = value(f"{TRIAL}-beside-code", name)
        assert final_and_kept(points[f"code/{name}"]) == {UPDATES: expected}
        ((_, low, _),) = points[f"interval/code/{name}.low"]
        assert low == pytest.approx(expected - 0.1)


def test_pooled_rows_have_scores_of_their_own(synced: tuple[MlflowClient, Run, Storage]) -> None:
    client, parent, _ = synced
    points = history(client, child_of(client, parent, trial_id=TRIAL))
    assert final_and_kept(points["pooled/ttr_last_96"]) == {
        step: value("pooled", TRIAL, "greedy", update)
        for step, update in ((100, 100), (200, 200), (UPDATES, None))
    }
    assert final_and_kept(points["interval/pooled/ttr_last_96.high"]) == {UPDATES: 0.75}
    assert "nucleus/pooled/ttr_last_96" in points
    # no decoding changes it
    assert "nucleus/pooled/entropy_nats" not in points
    assert parent.data.metrics["trained/ttr_last_96.max"] == max(
        value("pooled", trial, "greedy", None)
        for model in ("pydoc-1m", "pydoc-2m")
        for trial in trial_ids(Shape(), model)
    )


def test_arms_models_and_adapters_are_told(synced: tuple[MlflowClient, Run, Storage]) -> None:
    client, parent, _ = synced
    first, second = (child_of(client, parent, trial_id=trial) for trial in trial_ids(Shape(), "pydoc-1m"))
    assert first.data.tags["rayfit.arm"] == "constant updates"
    assert second.data.tags["rayfit.arm"] == "constant updates; constant epochs"
    expected = {
        "model": "pydoc-1m",
        "train_text": "docs",
        "adapter": "lora:rank=4",
        "trainable_parameters": "500000",
        "batch_size": "8",
        "order_seed": "0",
        "repeat": "0",
    }
    assert expected.items() <= second.data.params.items()
    assert "adapter" not in first.data.params
    experiment = client.get_experiment(parent.info.experiment_id)
    view = json.loads(experiment.tags[f"mlflow.sharedViewState.{parent.info.run_id}"])
    columns = view["selectedColumns"]
    assert columns[:4] == [
        "tags.`rayfit.arm`",
        "params.`samples`",
        "params.`model`",
        "params.`train_text`",
    ]  # of what is left, all follows from these
    for shown in ("code/ttr_last_96", "nucleus/docs/ttr_last_96", "pooled/ttr_last_96", "pooled/rep_4"):
        assert f"metrics.`{shown}`" in columns
    # a score of a figure is shown once, over all domains
    assert "metrics.`code/rep_4`" not in columns
    assert "metrics.`code/top_1_agreement`" in columns


def test_files_of_a_general_sweep(synced: tuple[MlflowClient, Run, Storage]) -> None:
    client, parent, storage = synced
    assert sorted(artifacts(client, parent)) == [
        "figures/figure-1-agreement.png",
        "launches.json",
        "plot.png",
        "report.html",
        "results.csv",
        "summary.json",
        "table.txt",
    ]
    found = artifacts(client, child_of(client, parent, trial_id=TRIAL))
    labels = [
        f"{label}-{domain}{further}"
        for label in ("greedy", "nucleus")
        for domain in ("code", "docs")
        for further in ("", "-further-1000")
    ]
    labels += ["original-matched-code", "original-matched-docs"]
    # none of kept weights: their scores are curves, and there are many of them
    assert {path for path in found if path.startswith("generations/")} == {
        f"generations/{label}.parquet" for label in labels
    }
    assert {"comparisons/beside-original-code.json", "measurements.json"} <= set(found)
    run = child_of(client, parent, trial_id=TRIAL)
    place = storage.root / "mlartifacts" / run.info.run_id / "artifacts"
    listed = json.loads((place / "measurements.json").read_text())
    assert f"{TRIAL}-at100-nucleus-docs" in {entry.get("evaluation_id") for entry in listed}
    assert f"{TRIAL}-beside-docs" in {entry.get("comparison_id") for entry in listed}


def test_a_general_sweep_again_changes_nothing(storage: Storage) -> None:
    sweep = write_general(storage)
    client = connect(None, storage)
    sync_sweep(storage, sweep, client, finished=True)
    before = snapshot(client)
    assert sync_sweep(storage, sweep, connect(None, storage), finished=True).unchanged == 7
    for run in children_of(client, parent_of(client, sweep["id"])):
        client.delete_tag(run.info.run_id, "rayfit.written")
    assert sync_sweep(storage, sweep, client, finished=True).updated == 6
    assert snapshot(client) == before


def test_a_kept_score_made_again_is_the_one_shown_at_its_update(storage: Storage) -> None:
    sweep = write_general(storage)
    client = connect(None, storage)
    sync_sweep(storage, sweep, client, finished=True)
    identifier = f"{TRIAL}-at100-greedy-code"
    record = storage.read("evaluations", identifier)
    assert record is not None
    # lower, and with the same time as before
    record["scores"]["rep_4"]["value"] = -1.0
    storage.write("evaluations", identifier, record)
    sync_sweep(storage, sweep, client, finished=True)
    run = child_of(client, parent_of(client, sweep["id"]), trial_id=TRIAL)
    points = sorted(history(client, run)["code/rep_4"], key=lambda point: (point[0], point[2]))
    assert [point[1] for point in points] == [
        value(identifier, "rep_4"),
        -1.0,
        value(f"{TRIAL}-at200-greedy-code", "rep_4"),
        value(f"{TRIAL}-greedy-code", "rep_4"),
    ]
    # nothing else was written again
    assert len(history(client, run)["code/ttr_last_96"]) == 3


def test_a_trial_is_complete_with_what_is_wanted_of_it(storage: Storage) -> None:
    shape = Shape(models=("pydoc-1m",), domains=("code",), trials=1, kept=(100,), further=0)
    trial = trial_ids(shape, "pydoc-1m")[0]
    sweep = {**general_record(shape), "comparisons": []}
    client = connect(None, storage)
    write_trained(storage, shape, "pydoc-1m", 0, trial)
    states = []
    for entry in sweep["evaluations"]:
        sync_sweep(storage, sweep, client)
        parent = parent_of(client, sweep["id"])
        statuses = {run.data.tags["rayfit.who"]: run.info.status for run in children_of(client, parent)}
        states.append((statuses.get("original"), statuses["trained"]))
        write_evaluated(storage, shape, entry)
    assert states == [
        (None, "RUNNING"),
        ("RUNNING", "RUNNING"),
        *[("FINISHED", "RUNNING")] * 5,
    ]
    sync_sweep(storage, sweep, client)
    assert child_of(client, parent, trial_id=trial).info.status == "FINISHED"
    # trained anew: the matched original waits for the new temperature too
    write_trained(storage, shape, "pydoc-1m", 0, trial)
    record = storage.read("trials", trial)
    assert record is not None
    storage.write("trials", trial, {**record, "edition": 2, "finished_at": "2026-03-01T11:00:00.000+00:00"})
    sync_sweep(storage, sweep, client)
    new = child_of(client, parent, trial_id=trial, edition="2")
    assert new.info.status == "RUNNING"
    assert "original_matched/ttr_last_96" not in new.data.metrics


def test_what_has_no_row_of_its_own_and_failed_is_told(storage: Storage) -> None:
    shape = Shape()
    sweep = write_general(storage, shape)
    alone = next(entry for entry in sweep["evaluations"] if entry.get("further") and entry["trial_id"])
    beside = next(
        entry for entry in sweep["comparisons"] if entry["trial_id"] not in (alone["trial_id"], None)
    )
    (storage.folder("evaluations", alone["evaluation_id"]) / "record.json").unlink()
    (storage.folder("comparisons", beside["comparison_id"]) / "record.json").unlink()
    sweep["failed_measurements"] = {alone["evaluation_id"]: "no memory", beside["comparison_id"]: "no disk"}
    client = connect(None, storage)
    sync_sweep(storage, sweep, client, finished=True)
    parent = parent_of(client, sweep["id"])
    for trial, error in ((alone["trial_id"], "no memory"), (beside["trial_id"], "no disk")):
        run = child_of(client, parent, trial_id=trial)
        assert (run.info.status, run.data.tags["error"]) == ("FAILED", error)
    assert parent.info.status == "FAILED"


def test_originals_of_old_storages_are_found_again(storage: Storage) -> None:
    sweep = write_general(storage)
    client = connect(None, storage)
    sync_sweep(storage, sweep, client, finished=True)
    parent = parent_of(client, sweep["id"])
    old = child_of(client, parent, original="true", model="pydoc-2m")
    client.delete_tag(old.info.run_id, "rayfit.model")
    client.delete_tag(old.info.run_id, "rayfit.written")
    assert sync_sweep(storage, sweep, client, finished=True).created == 0
    assert child_of(client, parent, original="true", model="pydoc-2m").info.run_id == old.info.run_id


class Counting:
    """A client that counts what is asked of it: time is spent there, and differs from machine to machine."""

    def __init__(self, client: Any) -> None:
        self._client, self.calls = client, 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if not callable(found):
            return found

        def called(*arguments: Any, **options: Any) -> Any:
            self.calls += 1
            return found(*arguments, **options)

        return called


def test_a_large_sweep_is_synced_in_few_calls(storage: Storage) -> None:
    shape = Shape(
        models=("pydoc-1m",),
        domains=("code", "comments", "docs"),
        decodings=("greedy", "nucleus", "greedy:block=W1"),
        trials=15,
        kept=(),
        text_scores=("ttr_last_96", *(f"score_{number}" for number in range(20))),
    )
    sweep = write_general(storage, shape)
    along = Shape(
        models=("pydoc-1m",),
        domains=("code",),
        decodings=("greedy",),
        trials=1,
        kept=tuple(range(16, 400, 16)),
    )
    client = Counting(connect(None, storage))
    assert sync_sweep(storage, sweep, client, finished=True).created == 17
    # 17 runs; point by point it would be thousands
    assert client.calls < 17 * 12
    first = client.calls
    assert sync_sweep(storage, sweep, client, finished=True).unchanged == 17
    assert client.calls - first < 8
    kept = {**write_general(storage, along), "id": "along-0123456789ab"}
    sync_sweep(storage, kept, client, finished=True)
    run = child_of(client, parent_of(client, kept["id"]), trial_id=trial_ids(along, "pydoc-1m")[0])
    assert [step for step, _, _ in history(client, run)["ttr_last_96"]] == [*range(16, 400, 16), UPDATES]
    steps = [step for step, _, _ in history(client, run)["curve/train_loss"]]
    assert steps == curve(8)["update"].to_list()
