"""The order in which trials are trained."""

from __future__ import annotations

import random
from pathlib import Path

from rayfit.config import Options
from rayfit.plan.plan import Plan
from rayfit.plan.planning import make_plan
from rayfit.records.storage import Storage
from rayfit.sweep.kinds import group_kind, in_groups
from sweeps import data_quantity, model_size


def _plan(storage: Path, module: object, **options: object) -> Plan:
    return make_plan(module.SWEEP, Options(**{"scale": "laptop", **options}), Storage(storage))


def _sizes(plan: Plan) -> dict[str, int]:
    return {model.name: model.num_parameters for model in plan.models}


def test_the_longest_trial_is_trained_first(tmp_path: Path) -> None:
    plan = _plan(tmp_path, data_quantity)
    ordered = list(in_groups(list(plan.unique_trials), _sizes(plan)).values())
    assert {trial.key for trial in ordered} == {trial.key for trial in plan.unique_trials}
    updates = [trial.recipe.num_updates for trial in ordered]
    assert updates == sorted(updates, reverse=True) and updates[0] > updates[-1]
    # of equally many updates those on more rows, which take longer to measure
    samples = [trial.selection.samples for trial in ordered if trial.recipe.num_updates == updates[0]]
    assert samples == sorted(samples, reverse=True)


def test_kinds_stay_together_and_begin_with_the_longest_trial_of_all(tmp_path: Path) -> None:
    plan = _plan(tmp_path, model_size)
    trials = list(plan.unique_trials)
    random.Random(0).shuffle(trials)
    ordered = list(in_groups(trials, _sizes(plan)).values())
    kinds = [group_kind(trial) for trial in ordered]
    assert [kind for place, kind in enumerate(kinds) if kind not in kinds[:place]] == list(
        dict.fromkeys(kinds)
    )
    assert len(set(kinds)) > 1

    def work(trial: object) -> int:
        return trial.model.num_parameters * trial.recipe.num_updates * trial.recipe.batch_size

    assert work(ordered[0]) == max(map(work, trials))
    firsts = [work(ordered[kinds.index(kind)]) for kind in dict.fromkeys(kinds)]
    assert firsts == sorted(firsts, reverse=True)


def test_trials_that_take_equally_long_stay_in_the_order_of_the_plan(tmp_path: Path) -> None:
    plan = _plan(tmp_path, data_quantity, samples=(8,), num_updates=(40,), seeds=(3, 0, 2))
    ordered = list(in_groups(list(plan.unique_trials), _sizes(plan)).values())
    assert [trial.selection.sample_seed for trial in ordered] == [3, 0, 2]
