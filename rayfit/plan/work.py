"""The time that trials take beside each other, as far as a plan knows."""

from __future__ import annotations

from rayfit.plan.trials import TrialSpec


def training_work(trial: TrialSpec, num_parameters: int) -> tuple[float, int]:
    """Return a key that sorts trials by the time they take; keys are compared, not added.

    Parameters times sequences trained on; then, since measuring takes longer on more rows, the number of samples.
    """
    sequences = trial.recipe.num_updates * trial.recipe.batch_size
    return float(num_parameters) * sequences, trial.selection.samples
