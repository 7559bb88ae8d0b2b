"""Sweeps of several models, domains and arms, with weights kept along training and matched originals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from rayfit.plan.trials import TrialSpec
from rayfit.records.storage import Storage
from rayfit.records.sweep import SweepRecord
from rayfit.track.connection import connect
from rayfit.track.sync import sync_sweep
from tests.finished import Finished
from tests.unit.track.reading import artifacts, child_of, children_of, history, parent_of
from tests.unit.track.sweeps import (
    DOMAINS,
    MODELS,
    UPDATES,
    general,
    run_of,
    spec_of,
    specs_of,
    value,
    write_report,
)


def final_and_kept(points: list[tuple[int, float, int]]) -> dict[int, float]:
    assert len({step for step, _, _ in points}) == len(points)
    return {step: number for step, number, _ in points}


class Synced(NamedTuple):
    client: MlflowClient
    parent: Run
    made: Finished
    record: SweepRecord

    def trial(self, model: str = MODELS[0], text: str = DOMAINS[0], updates: int = UPDATES) -> TrialSpec:
        (found,) = [
            trial
            for trial in self.made.plan.unique_trials
            if (trial.model.name, trial.domain.name, trial.recipe.num_updates) == (model, text, updates)
        ]
        return found

    def child(self, trial: TrialSpec) -> Run:
        return child_of(self.client, self.parent, trial_id=str(trial.id))

    def points(self, trial: TrialSpec) -> dict[str, dict[int, float]]:
        found = history(self.client, self.child(trial))
        return {key: final_and_kept(points) for key, points in found.items()}


@pytest.fixture(scope="module")
def synced(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Synced:
    """For tests that only read: the sweep in MLflow."""
    root = tmp_path_factory.mktemp("general")
    shutil.copyfile(empty_database, root / "mlflow.db")
    storage = Storage(root)
    made = general(storage)
    record = made.record()
    write_report(storage, record)
    client = connect(None, storage)
    sync_sweep(storage, record, client, finished=True)
    return Synced(client, parent_of(client, record.id), made, record)


def test_every_model_has_an_original_of_its_own(synced: Synced) -> None:
    client, parent, made, _ = synced
    assert len(children_of(client, parent)) == 2 + 8
    for model in MODELS:
        run = child_of(client, parent, original="true", model=model)
        assert (run.info.run_name, run.info.status) == (f"{model} original", "FINISHED")
        found = {key: final_and_kept(points) for key, points in history(client, run).items()}
        of_model: dict[str, Any] = {"model": model, "matched_to": None}
        for key, kind, name, planned in (
            ("code/ttr_last_96", "scores", "ttr_last_96", {"domain": "code", "decoding": "greedy"}),
            ("nucleus/docstrings/rep_4", "scores", "rep_4", {"domain": "docstrings", "decoding": "nucleus"}),
            ("docstrings/validation_loss", "predictions", "validation_loss", {"domain": "docstrings"}),
        ):
            assert found[key] == {0: value(spec_of(made, kind, **of_model, **planned), name)}
        assert {"code/minutes", "nucleus/code/minutes"} <= found.keys()
        assert not any("matched" in key or "further" in key for key in found)


def test_scores_of_kept_weights_are_curves_that_end_at_the_final_weights(synced: Synced) -> None:
    trial = synced.trial()
    points = synced.points(trial)
    for prefix, decoding in (("", "greedy"), ("nucleus/", "nucleus")):
        for domain in DOMAINS:
            of = {"decoding": decoding, "domain": domain}
            for name in ("ttr_last_96", "rep_4"):
                final = value(spec_of(synced.made, "scores", trial, **of), name)
                assert points[f"{prefix}{domain}/{name}"] == {
                    40: value(spec_of(synced.made, "scores", trial, update=40, **of), name),
                    80: value(spec_of(synced.made, "scores", trial, update=80, **of), name),
                    UPDATES: final,
                }
                # the interval is of the final weights alone, and of the usual contexts
                low = points[f"interval/{prefix}{domain}/{name}.low"]
                assert low == {UPDATES: pytest.approx(final - 0.02)}
            # it is that of the final weights which MLflow shows
            key = f"{prefix}{domain}/ttr_last_96"
            assert synced.child(trial).data.metrics[key] == points[key][UPDATES]


def test_what_no_decoding_changes_stands_once_per_domain(synced: Synced) -> None:
    trial = synced.trial()
    points = synced.points(trial)
    for name in ("validation_loss", "entropy_nats"):
        assert points[f"docstrings/{name}"] == {
            update or UPDATES: value(
                spec_of(synced.made, "predictions", trial, domain="docstrings", update=update), name
            )
            for update in (40, 80, None)
        }
        keys = {key for key in points if key.endswith(f"/{name}") and "interval" not in key}
        assert (
            keys - {f"pooled/{name}"}
            == {f"code/{name}", f"docstrings/{name}", f"curve/{name}"} & points.keys()
        )
    # of the training rows: the same on whatever domain
    assert {key for key in points if key.rpartition("/")[2] == "train_loss"} == {
        "train_loss",
        "curve/train_loss",
    }


def test_a_matched_original_and_the_comparison_belong_to_the_trial(synced: Synced) -> None:
    trial = synced.trial()
    points = synced.points(trial)
    matched = spec_of(synced.made, "scores", matched_to=trial.id, domain="docstrings")
    for name in ("ttr_last_96", "rep_4"):
        assert points[f"original_matched/docstrings/{name}"] == {UPDATES: value(matched, name)}
    assert not any(
        f"original_matched/docstrings/{name}" in points for name in ("validation_loss", "entropy_nats")
    )
    for kind, name in (("comparisons", "top_1_agreement"), ("temperatures", "matched_temperature")):
        expected = value(spec_of(synced.made, kind, trial, domain="code"), name)
        assert points[f"code/{name}"] == {UPDATES: expected}
        assert points[f"interval/code/{name}.low"] == {UPDATES: pytest.approx(expected - 0.02)}


def test_pooled_rows_have_scores_of_their_own(synced: Synced) -> None:
    trial = synced.trial()
    points = synced.points(trial)

    def mean(update: int | None, decoding: str = "greedy") -> float:
        specs = specs_of(synced.made, "scores", trial, update=update, decoding=decoding)
        return sum(value(spec, "ttr_last_96") for spec in specs) / len(DOMAINS)

    expected = {update or UPDATES: pytest.approx(mean(update)) for update in (40, 80, None)}
    assert points["pooled/ttr_last_96"] == expected
    assert points["nucleus/pooled/ttr_last_96"][UPDATES] == pytest.approx(mean(None, "nucleus"))
    pooled = next(
        row
        for row in synced.record.rows
        if (row.domain, row.trial_id, row.who, row.update, row.decoding)
        == ("pooled", trial.id, "trained", None, "greedy")
    )
    bounds = pooled.bounds("ttr_last_96")
    assert bounds is not None
    assert points["interval/pooled/ttr_last_96.high"] == {UPDATES: bounds[1]}
    # no decoding changes it
    assert "pooled/entropy_nats" in points
    assert not any(key.endswith("/pooled/entropy_nats") for key in points)
    assert "original_matched/pooled/ttr_last_96" in points
    final = [
        row.value("ttr_last_96")
        for row in synced.record.rows
        if (row.domain, row.who, row.update, row.decoding) == ("pooled", "trained", None, "greedy")
    ]
    assert synced.parent.data.metrics["trained/ttr_last_96.max"] == max(final)


def test_arms_models_and_adapters_are_told(synced: Synced) -> None:
    client, parent, _, _ = synced
    first, second = (
        synced.child(synced.trial(text="docstrings", updates=updates)) for updates in (UPDATES, 50)
    )
    assert first.data.tags["rayfit.arm"] == "constant updates"
    assert second.data.tags["rayfit.arm"] == "rows seen seldom"
    expected = {
        "model": MODELS[0],
        "train_text": "docstrings",
        "adapter": "lora:rank=4",
        "trainable_parameters": "1000000",
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
    ]
    # of what is left, all follows from these
    assert columns[4].startswith("metrics.")
    for shown in ("code/ttr_last_96", "nucleus/docstrings/ttr_last_96", "pooled/ttr_last_96", "pooled/rep_4"):
        assert f"metrics.`{shown}`" in columns
    # a score of a figure is shown once, over all domains
    assert "metrics.`code/rep_4`" not in columns
    assert "metrics.`code/top_1_agreement`" in columns


def test_a_trial_may_stand_in_two_arms(storage: Storage) -> None:
    made = run_of(storage, changes={"arms": {"first": {}, "again": {}}}, samples=(8,)).all()
    record = made.record()
    client = connect(None, storage)
    assert sync_sweep(storage, record, client, finished=True).created == 3
    (trial,) = made.plan.unique_trials
    run = child_of(client, parent_of(client, record.id), trial_id=str(trial.id))
    assert run.data.tags["rayfit.arm"] == "first; again"


def test_files_of_a_general_sweep(synced: Synced) -> None:
    trial = synced.trial()
    run = synced.child(trial)
    found = artifacts(synced.client, run)
    labels = [
        f"{label}-{domain}{further}"
        for label in ("greedy", "nucleus")
        for domain in DOMAINS
        for further in ("", "-further-20")
    ]
    labels += [f"original-matched-{domain}" for domain in DOMAINS]
    # none of kept weights: their scores are curves, and there are many of them
    assert {path for path in found if path.startswith("generations/") and "texts" in path} == {
        f"generations/{label}/texts.parquet" for label in labels
    }
    assert {"comparisons/code/record.json", "measurements.json"} <= set(found)
    storage = synced.made.storage
    place = storage.root / "mlartifacts" / run.info.run_id / "artifacts"
    listed = {entry["id"] for entry in json.loads((place / "measurements.json").read_text())}
    assert spec_of(synced.made, "scores", trial, update=40, domain="code", decoding="nucleus").id in listed
    assert spec_of(synced.made, "comparisons", trial, domain="docstrings").id in listed
