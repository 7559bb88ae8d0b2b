"""Sweeps of several models, domains and arms, with weights kept along training and matched originals."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from rayfit.measure.stage import Measured, Stage, measure
from rayfit.plan.contexts import HeldOut
from rayfit.plan.measurements import Measurement, Subject
from rayfit.plan.trials import TrialSpec
from rayfit.records.storage import Storage
from rayfit.records.sweep import SweepRecord
from rayfit.records.values import Entry
from rayfit.track.connection import connect
from rayfit.track.sync import sync_sweep
from tests.finished import Finished
from tests.unit.track.reading import artifacts, child_of, children_of, history, parent_of, snapshot
from tests.unit.track.sweeps import UPDATES, run_of, spec_of, specs_of, write_report

MODELS = ("pydoc-0.5m", "pydoc-1m")
DOMAINS = ("code", "docstrings")
GENERAL: dict[str, Any] = {
    "changes": {
        "arms": {
            "constant updates": {},
            "rows seen seldom": {"epochs": (50.0,), "adapter": ("lora:rank=4",)},
        },
        "varies": ("model", "dataset", "samples", "seeds"),
        "figures": ({"kind": "bars", "y": "rep_4"}, {"kind": "agreement"}),
    },
    # named, since the options say an axis that the second says itself
    "arms": ("constant updates", "rows seen seldom"),
    "model": MODELS,
    "samples": (8,),
    "dataset": DOMAINS,
    "eval_datasets": DOMAINS,
    "decodings": ("greedy", "nucleus", "matched"),
    "keep_every": 40.0,
    "further_contexts": 20,
}


def general(storage: Storage, *, kind: str = "data_quantity", **changes: Any) -> Finished:
    """A launch of the general sweep; every number of it is one of its own."""
    options = {**GENERAL, **changes}
    made = run_of(storage, **{**options, "changes": {**options["changes"], "kind": kind}})
    for trial in made.plan.unique_trials:
        made.train(trial)
    for spec in made.plan.measurements:
        measured(made, spec)
    return made


def measured(made: Finished, spec: Measurement) -> None:
    names = {
        "predictions": ("validation_loss", "entropy_nats"),
        "scores": ("ttr_last_96", "rep_4"),
        "comparisons": ("top_1_agreement",),
        "temperatures": ("matched_temperature",),
    }
    made.measure(spec, **{name: value(spec, name) for name in names.get(spec.kind, ())})


def value(spec: Measurement, name: str) -> float:
    """A number of its own for every measurement, the same each time."""
    return int(spec.id.rpartition("-")[2][:6], 16) / 0x1000000 + len(name) / 1000


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


def test_a_general_sweep_again_changes_nothing(storage: Storage) -> None:
    record = general(storage, keep_every=None, dataset=DOMAINS[:1]).record()
    client = connect(None, storage)
    sync_sweep(storage, record, client, finished=True)
    before = snapshot(client)
    assert sync_sweep(storage, record, connect(None, storage), finished=True).unchanged == 7
    for run in children_of(client, parent_of(client, record.id)):
        client.delete_tag(run.info.run_id, "rayfit.written")
    assert sync_sweep(storage, record, client, finished=True).updated == 6
    assert snapshot(client) == before


def test_a_kept_score_made_again_is_the_one_shown_at_its_update(storage: Storage) -> None:
    made = general(storage, model=MODELS[:1], dataset=DOMAINS[:1])
    record = made.record()
    client = connect(None, storage)
    sync_sweep(storage, record, client, finished=True)
    trial = made.plan.unique_trials[0]
    of: dict[str, Any] = {"decoding": "greedy", "domain": "code"}
    kept, final = (spec_of(made, "scores", trial, update=update, **of) for update in (40, None))
    made.measure(kept, ttr_last_96=value(kept, "ttr_last_96"), rep_4=-1.0)
    sync_sweep(storage, record, client, finished=True)
    run = child_of(client, parent_of(client, record.id), trial_id=str(trial.id))
    points = sorted(history(client, run)["code/rep_4"], key=lambda point: (point[0], point[2]))
    assert [point[1] for point in points] == [
        value(kept, "rep_4"),
        -1.0,
        value(spec_of(made, "scores", trial, update=80, **of), "rep_4"),
        value(final, "rep_4"),
    ]
    # nothing else was written again
    assert len(history(client, run)["code/ttr_last_96"]) == 3


def test_a_trial_is_complete_with_what_is_wanted_of_it(storage: Storage) -> None:
    made = run_of(storage, samples=(8,), decodings=("greedy", "matched"), keep_every=60.0)
    (trial,) = made.plan.trials
    record = made.begun()
    client = connect(None, storage)
    made.train(trial)
    states = []
    for spec in made.plan.measurements:
        sync_sweep(storage, record, client)
        children = children_of(client, parent_of(client, record.id))
        statuses = {run.data.tags["rayfit.who"]: run.info.status for run in children}
        states.append((statuses.get("original"), statuses["trained"]))
        made.measure(spec)
    originals = sum(spec.trial is None for spec in made.plan.measurements)
    assert states == [
        (None, "RUNNING"),
        *[("RUNNING", "RUNNING")] * (originals - 1),
        *[("FINISHED", "RUNNING")] * (len(states) - originals),
    ]
    sync_sweep(storage, record, client)
    parent = parent_of(client, record.id)
    assert child_of(client, parent, trial_id=str(trial.id)).info.status == "FINISHED"
    # trained anew: the matched original waits for the new temperature too
    made.train(trial, fresh=True, digest="other", finished_at="2026-03-01T11:00:00.000+00:00")
    for kind in ("predictions", "comparisons"):
        for spec in specs_of(made, kind, trial):
            made.measure(spec)
    sync_sweep(storage, record, client)
    new = child_of(client, parent, trial_id=str(trial.id), edition="2")
    assert new.info.status == "RUNNING"
    assert "validation_loss" in new.data.metrics
    assert "original_matched/ttr_last_96" not in new.data.metrics
    assert "ttr_last_96" not in new.data.metrics


def test_what_has_no_row_of_its_own_and_failed_is_told(storage: Storage) -> None:
    made = run_of(storage, samples=(8, 32), further_contexts=20)
    eight, many = made.plan.trials
    alone, beside = spec_of(made, "generations", eight, further=20), spec_of(made, "comparisons", many)
    for trial in (eight, many):
        made.train(trial)
    for spec in made.plan.measurements:
        if spec.id in (alone.id, beside.id):
            made.fail_measuring(spec, "no memory" if spec.id == alone.id else "no disk")
        elif alone.id not in {each.id for each in spec.inputs}:
            made.measure(spec)
    record = made.record()
    client = connect(None, storage)
    sync_sweep(storage, record, client, finished=True)
    parent = parent_of(client, record.id)
    for trial, error in ((eight, "generations: no memory"), (many, "comparisons: no disk")):
        run = child_of(client, parent, trial_id=str(trial.id))
        assert (run.info.status, run.data.tags["error"]) == ("FAILED", error)
    assert parent.info.status == "FAILED"


class Quiz(Measurement):
    """A kind of measurement that a sweep adds: nothing in the tracking room knows it."""

    kind = "quizzes"
    version = 1


def _quizzes(plan: Any) -> list[Quiz]:
    return [
        Quiz(
            subject=Subject(model=trial.model, trial=trial),
            contexts=HeldOut(domain=trial.domain),
            settings=plan.evaluation,
        )
        for trial in plan.unique_trials
    ]


def test_a_new_kind_of_measurement_needs_nothing_here(storage: Storage) -> None:
    entry = Entry(value=0.4, low=0.3, high=0.5, count=9)
    stage = Stage(kind="quizzes", run=lambda *_: Measured(scores={"quiz_accuracy": entry}), specs=_quizzes)
    made = run_of(storage, changes={"measures": (stage,)}, samples=(8,))
    (trial,) = made.plan.trials
    made.train(trial)
    for spec in made.plan.measurements:
        if spec.kind == "quizzes":
            measure(stage, spec, made.launch.bench)
        else:
            made.measure(spec)
    record = made.record()
    client = connect(None, storage)
    sync_sweep(storage, record, client, finished=True)
    run = child_of(client, parent_of(client, record.id), trial_id=str(trial.id))
    found: Mapping[str, float] = run.data.metrics
    assert (found["quiz_accuracy"], found["interval/quiz_accuracy.low"]) == (0.4, 0.3)
    assert "quizzes/pydoc/record.json" in artifacts(client, run)


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
    made = run_of(
        storage,
        samples=(8,),
        seeds=tuple(range(8)),
        decodings=("greedy", "nucleus", "greedy:block=W1"),
        eval_datasets=("code", "comments", "docstrings"),
    )
    many = {f"score_{number}": 0.5 for number in range(20)}
    for trial in made.plan.trials:
        made.train(trial)
    for spec in made.plan.measurements:
        made.measure(spec, **(many if spec.kind == "scores" else {}))
    record = made.record()
    client = Counting(connect(None, storage))
    assert sync_sweep(storage, record, client, finished=True).created == 10
    # 10 runs; point by point it would be thousands
    assert client.calls < 10 * 12
    first = client.calls
    assert sync_sweep(storage, record, client, finished=True).unchanged == 10
    assert client.calls - first < 8


def test_many_kept_weights_make_one_curve(storage: Storage) -> None:
    made = run_of(storage, samples=(8,), keep_every=4.0).all()
    (trial,) = made.plan.trials
    record = made.record()
    client = connect(None, storage)
    sync_sweep(storage, record, client, finished=True)
    run = child_of(client, parent_of(client, record.id), trial_id=str(trial.id))
    points = history(client, run)
    assert [step for step, _, _ in points["ttr_last_96"]] == [*range(4, 100, 4), UPDATES]
    steps = [step for step, _, _ in points["curve/train_loss"]]
    assert steps == sorted({*range(0, UPDATES + 1, 5), *range(4, 100, 4)})
