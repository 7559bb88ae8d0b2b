from __future__ import annotations

import importlib
import shlex
from pathlib import Path
from typing import Any

import pytest

from rayfit.cli import parse_options
from rayfit.plan.planning import make_plan
from rayfit.plan.products import is_finished, wanted_products
from rayfit.records.storage import Storage
from rayfit.sweep.tasks import trial_command, trial_task
from tests.finished import Finished
from tests.unit.fresh import ROOT
from tests.unit.plan.examples import SWEEP, plan_of
from tests.unit.records.test_states import save_state

KINDS = sorted(path.stem for path in (ROOT / "sweeps").glob("[!_]*.py"))


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "runs")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"samples": (8, 32), "seeds": (0, 3)},
        {"learning_rate": (1e-6,), "precision": "fp32", "batch_size": 4, "num_workers": 2, "zero_stage": 3},
        {"span_characters": 900, "held_out_share": 0.15, "sequence_length": 200, "eval_every": 7},
        {"decodings": ("greedy", "nucleus:temperature=0.5,block=W2"), "num_new_tokens": 224, "contexts": 7},
        {"model": "pydoc-0.5m", "scale": "ci", "use_gpu": True, "export_dtype": "bf16"},
        {"tracking_uri": "http://tracking.example", "num_cpus": 1, "fresh": True, "plan": True},
    ],
    ids=str,
)
def test_the_command_of_a_trial_makes_that_trial_and_its_measurements_again(
    storage: Storage, changes: dict[str, Any]
) -> None:
    plan = plan_of(storage, **changes)
    for trial in plan.trials:
        words = shlex.split(trial_command("/anywhere/sweeps/data_quantity.py", plan, trial))
        assert words[:2] == ["python", "sweeps/data_quantity.py"]
        options = parse_options(SWEEP, words[2:])
        again = make_plan(SWEEP, options, storage)
        assert [other.id for other in again.trials] == [trial.id]
        assert wanted_products(again, again.trials[0]) == wanted_products(plan, trial)
        own = [spec.id for spec in plan.measurements if spec.trial is None or spec.trial.id == trial.id]
        assert [spec.id for spec in again.measurements] == own
        assert not options.fresh and not options.plan


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("given", ["--scale ci", "--scale laptop --seeds 0,1"])
def test_the_command_of_every_trial_of_every_sweep_makes_it_again(
    storage: Storage, kind: str, given: str
) -> None:
    sweep = importlib.import_module(f"sweeps.{kind}").SWEEP
    plan = make_plan(sweep, parse_options(sweep, given.split()), storage)
    for trial in plan.trials:
        words = shlex.split(trial_command(f"/anywhere/sweeps/{kind}.py", plan, trial))
        again = make_plan(sweep, parse_options(sweep, words[2:]), storage)
        assert {other.id for other in again.trials} == {trial.id}, words


def test_a_trial_is_finished_when_every_product_that_is_wanted_is_there(storage: Storage) -> None:
    plan = plan_of(storage)
    (trial,) = plan.trials
    assert not is_finished(plan, trial, storage)
    Finished(storage, plan).train(trial)
    assert is_finished(plan, trial, storage)
    for lacking in ({"eval_every": 50}, {"validation_rows": 15}, {"export_dtype": "bf16"}):
        other = plan_of(storage, **lacking)
        assert other.trials[0].id == trial.id
        assert not is_finished(other, other.trials[0], storage)


def test_a_training_anew_that_was_interrupted_goes_on_without_being_told(storage: Storage) -> None:
    plan = plan_of(storage)
    made = Finished(storage, plan)
    record = made.train(plan.trials[0])
    task = trial_task(made.prepared, plan.trials[0], storage, "sweeps/x.py")
    assert (task.fresh, task.anew) == (False, False)
    save_state(storage, 10, trial=record.id)
    assert is_finished(plan, plan.trials[0], storage), "a state of the record's own edition is no news"
    save_state(storage, 10, trial=record.id, edition=2, token="bb")
    assert not is_finished(plan, plan.trials[0], storage)
    task = trial_task(made.prepared, plan.trials[0], storage, "sweeps/x.py")
    assert (task.fresh, task.anew) == (True, False)
