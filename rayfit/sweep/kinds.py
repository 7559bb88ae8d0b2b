"""Which trials can follow each other in a worker group, and in which order they are trained."""

from __future__ import annotations

from collections.abc import Mapping

from rayfit.plan.trials import TrialSpec
from rayfit.plan.work import training_work


def group_kind(trial: TrialSpec) -> str:
    """What a worker group is built for: trials of one kind can follow each other in it."""
    adapter = "none" if trial.recipe.adapter is None else trial.recipe.adapter.text
    return f"{trial.model.name} b{trial.recipe.batch_size} {adapter}"


def in_groups(trials: list[TrialSpec], num_parameters: Mapping[str, int]) -> dict[str, TrialSpec]:
    """Trials by id, those of a kind together, the longest first: a long one that starts last is waited for alone.

    Kinds stand in the order of their longest trials; what takes equally long stays in the order of the plan.
    `num_parameters` by the models' names.
    """

    def work(trial: TrialSpec) -> tuple[float, int]:
        return training_work(trial, num_parameters[trial.model.name])

    longest: dict[str, tuple[float, int]] = {}
    for trial in trials:
        kind = group_kind(trial)
        longest[kind] = max(longest.get(kind, (0.0, 0)), work(trial))
    kinds = sorted(longest, key=lambda kind: longest[kind], reverse=True)
    ordered = sorted(trials, key=work, reverse=True)
    ordered.sort(key=lambda trial: kinds.index(group_kind(trial)))
    return {str(trial.id): trial for trial in ordered}
