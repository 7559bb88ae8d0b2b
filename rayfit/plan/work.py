"""How long trials take beside each other, as far as the plan knows."""

from __future__ import annotations

from rayfit.plan.grid import hub_preset
from rayfit.plan.sources import ModelSource
from rayfit.plan.trials import TrialSpec


def training_work(trial: TrialSpec) -> tuple[float, int]:
    """What orders trials by the time they take, to be compared and not added.

    Parameters times sequences trained on; then, since measuring takes longer on more rows, the number of samples.
    """
    sequences = trial.recipe.num_updates * trial.recipe.batch_size
    return _parameters(trial.model) * sequences, trial.selection.samples


def _parameters(model: ModelSource) -> float:
    """Of a model that no one knows the size of yet: one, so that its trials are still in order among themselves."""
    if model.num_parameters is not None:
        return float(model.num_parameters)
    preset = hub_preset(model)
    return 1.0 if preset is None else preset.billions * 1e9
