"""Kinds of measurements that a sweep brings: which names they may have, and what is made before them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rayfit.columns import COLUMNS, column
from rayfit.config import Options
from rayfit.errors import RayfitError
from rayfit.measure.stage import Measured, Stage
from rayfit.plan.contexts import HeldOut
from rayfit.plan.measurements import Measurement, Prediction, Subject
from rayfit.plan.plan import Plan
from rayfit.plan.planning import make_plan
from rayfit.records.storage import Storage
from rayfit.scores import SCORES, Score
from tests.finished import Finished
from tests.unit.plan.examples import BASE, SWEEP, plan_of


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "runs")


@pytest.fixture(autouse=True)
def usual_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    for table in (COLUMNS, SCORES):
        for name in ("sharpness",):
            monkeypatch.delitem(table, name, raising=False)


class Sharpness(Measurement):
    """Made from predictions of weights that the sweep does not evaluate otherwise."""

    kind, version = "sharpness", 1

    @property
    def inputs(self) -> tuple[Measurement, ...]:
        subject = replace(self.subject, update=7)
        return (Prediction(subject=subject, contexts=self.contexts, settings=self.settings),)


def _specs(plan: Plan) -> Iterator[Measurement]:
    for trial in plan.unique_trials:
        subject = Subject(model=trial.model, trial=trial)
        yield Sharpness(subject=subject, contexts=HeldOut(domain=trial.domain), settings=plan.evaluation)


def _stage(kind: str = "sharpness", reading: str = "made up", name: str = "sharpness") -> Stage:
    score = Score(name, "nats", "neither", "a test", reading)
    return Stage(kind=kind, run=lambda *_: Measured(), specs=_specs, scores=(score,))


def _plan(storage: Storage, stage: Stage) -> Plan:
    options: dict[str, Any] = {**BASE, "storage": str(storage.root)}
    return make_plan(replace(SWEEP, measures=(stage,)), Options(**options), storage)


def test_what_it_is_computed_from_is_measured_before_it(storage: Storage) -> None:
    plan = _plan(storage, _stage())
    usual = {spec.id for spec in plan_of(storage).measurements}
    added = [spec for spec in plan.measurements if spec.id not in usual]
    assert [spec.kind for spec in added] == ["predictions", "sharpness"]
    assert added[1].inputs == (added[0],) and added[0].subject.update == 7


@pytest.mark.parametrize("kind", ["generations", "scores", "trials", "sweeps", "logs"])
def test_a_name_that_is_taken_is_refused(kind: str) -> None:
    with pytest.raises(RayfitError, match=f"measures: the kind '{kind}' is taken"):
        replace(SWEEP, measures=(_stage(kind),))


@pytest.mark.parametrize("name", ["ttr_last_96", "samples", "minutes"])
def test_a_score_that_is_called_as_a_column_is_refused(name: str) -> None:
    with pytest.raises(RayfitError, match=f"score {name}: the name is taken"):
        replace(SWEEP, measures=(_stage(name=name),))


def test_a_score_may_be_explained_otherwise_later(storage: Storage) -> None:
    made = Finished(storage, _plan(storage, _stage(reading="at first")))
    record = made.begun()
    assert "at first" in column("sharpness").about and "sharpness" in record.scores
    again = Finished(storage, _plan(storage, _stage(reading="later")))
    again.begun()
    assert "later" in column("sharpness").about
    storage.write("sweeps", "old", msgspec.structs.replace(record, id="old"))
    for identifier in storage.ids("sweeps"):
        assert storage.sweep(identifier) is not None
