"""When a measurement is current: of the weights that count, from the inputs that are there, with what was asked."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from rayfit.errors import RayfitError
from rayfit.measure.bench import Bench
from rayfit.measure.stage import Measured, Stage, is_current, measure
from rayfit.plan.measurements import Generation, Measurement, Prediction, TextScores
from rayfit.plan.plan import Plan
from rayfit.records.storage import Storage
from rayfit.sweep.evaluators import EvaluationPool, jobs_of
from rayfit.sweep.launch import unfinished
from tests.finished import Finished
from tests.unit.plan.examples import plan_of


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "runs")


def _left(plan: Plan, storage: Storage) -> set[tuple[str, str]]:
    return {(spec.kind, spec.who) for spec in unfinished(plan, storage, fresh=False, retrained=())}


def _of(plan: Plan, kind: str, who: str) -> Measurement:
    return next(spec for spec in plan.measurements if (spec.kind, spec.who) == (kind, who))


TRAINED = {
    ("predictions", "trained"),
    ("generations", "trained"),
    ("scores", "trained"),
    ("comparisons", "trained"),
}


def test_what_is_recorded_is_not_left(storage: Storage) -> None:
    plan = plan_of(storage)
    assert len(unfinished(plan, storage, fresh=False, retrained=())) == len(plan.measurements)
    Finished(storage, plan).all()
    assert _left(plan, storage) == set()
    assert len(unfinished(plan, storage, fresh=True, retrained=())) == len(plan.measurements)
    again = unfinished(plan, storage, fresh=False, retrained=[plan.trials[0].id])
    assert {(spec.kind, spec.who) for spec in again} == TRAINED


def test_other_weights_are_measured_again_and_the_original_is_not(storage: Storage) -> None:
    made = Finished(storage, plan_of(storage)).all()
    made.train(made.plan.trials[0], digest="other", fresh=True)
    assert _left(made.plan, storage) == TRAINED


def test_a_new_edition_of_the_same_weights_is_measured_again(storage: Storage) -> None:
    made = Finished(storage, plan_of(storage)).all()
    made.train(made.plan.trials[0], fresh=True)
    assert _left(made.plan, storage) == TRAINED


def test_more_validation_rows_are_measured_when_asked_for_and_nothing_is_generated_again(
    storage: Storage,
) -> None:
    Finished(storage, plan_of(storage)).all()
    more = plan_of(storage, validation_rows=21)
    # What stands on the predictions may be other then, so it is looked at again.
    expected = {("predictions", "original"), ("predictions", "trained"), ("comparisons", "trained")}
    assert _left(more, storage) == expected
    made = Finished(storage, more)
    for who in ("original", "trained"):
        made.measure(_of(more, "predictions", who), validation_loss=7.0)
    assert _left(more, storage) == set(), "the same predictions of the same texts"


def test_texts_that_changed_are_scored_again(storage: Storage) -> None:
    made = Finished(storage, plan_of(storage)).all()
    made.measure(_of(made.plan, "generations", "trained"), texts=["another text"])
    assert _left(made.plan, storage) == {("scores", "trained")}
    # The same texts made again are no news.
    made.measure(_of(made.plan, "scores", "trained"))
    made.measure(_of(made.plan, "generations", "trained"), texts=["another text"])
    assert _left(made.plan, storage) == set()


def test_a_trial_s_scores_wait_for_the_original_s_texts_and_do_without(storage: Storage) -> None:
    made = Finished(storage, plan_of(storage))
    made.train(made.plan.trials[0])
    for kind in ("predictions", "generations", "scores", "comparisons"):
        made.measure(_of(made.plan, kind, "trained"))
    record = storage.measurement("scores", _of(made.plan, "scores", "trained").id)
    assert record is not None and len(record.inputs) == 1
    assert ("scores", "trained") in _left(made.plan, storage), "the original's texts may be there next time"
    made.measure(_of(made.plan, "generations", "original"))
    made.measure(_of(made.plan, "scores", "trained"))
    assert ("scores", "trained") not in _left(made.plan, storage)


def test_a_temperature_that_changed_generates_again(storage: Storage) -> None:
    made = Finished(storage, plan_of(storage, decodings=("greedy", "matched"))).all()
    matched = next(
        spec for spec in made.plan.measurements if isinstance(spec, Generation) and spec.matching is not None
    )
    assert is_current(matched, storage)
    made.measure(matched.inputs[0], matched_temperature=0.9)
    assert not is_current(matched, storage)


def test_what_turned_out_as_it_was_is_not_done_again(storage: Storage) -> None:
    plan = plan_of(storage, decodings=("greedy", "matched"))
    Finished(storage, plan).all()
    more = plan_of(storage, decodings=("greedy", "matched"), validation_rows=21)
    made = Finished(storage, more)
    left = unfinished(more, storage, fresh=False, retrained=())
    assert "generations" in {spec.kind for spec in left}, "the temperature may be another"
    pool = EvaluationPool(made.launch.bench, use_gpu=False, environment={})
    for spec in left:
        if spec.kind == "predictions":
            made.measure(spec, validation_loss=7.0)
    done = []
    for spec in left:
        if spec.kind != "predictions":
            for job in jobs_of(made.launch.stages, spec, made.launch.bench):
                assert not pool.is_left(job)
                done.append(spec.kind)
    assert {"generations", "temperatures", "comparisons"} <= set(done)
    fresh = next(iter(jobs_of(made.launch.stages, left[-1], made.launch.bench, again=True)))
    assert pool.is_left(fresh)


def test_a_record_of_an_earlier_version_is_another_measurement(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    Finished(storage, plan_of(storage)).all()
    monkeypatch.setattr(TextScores, "version", 999)
    assert _left(plan_of(storage), storage) == {
        ("scores", "truth"),
        ("scores", "original"),
        ("scores", "trained"),
    }


def test_a_worker_of_another_rayfit_measures_nothing(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(storage)
    spec = _of(plan, "predictions", "original")
    asked: list[Any] = []
    stage = Stage(kind=spec.kind, run=lambda *given: asked.append(given) or Measured())
    assert spec.id
    arrived = pickle.loads(pickle.dumps(spec))
    monkeypatch.setattr(Prediction, "version", Prediction.version + 1)
    with pytest.raises(RayfitError, match=f"{spec.id} is of another rayfit than this worker's"):
        measure(stage, arrived, Bench(storage=storage, model_paths={}, device="cpu"))
    assert not asked and storage.ids(spec.kind) == []
