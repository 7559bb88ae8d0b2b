"""The products that a plan wants of a trial. A trial is finished for a plan when its record has all of them."""

from __future__ import annotations

from rayfit.plan.plan import Plan
from rayfit.plan.trials import CURVE_ROWS, TrialSpec, curve_updates
from rayfit.records.states import is_begun_anew
from rayfit.records.storage import Storage
from rayfit.records.trial import Product, checkpoint, curve, weights


def wanted_products(plan: Plan, trial: TrialSpec) -> list[Product]:
    """Return the products that this plan needs of a trial."""
    recipe = trial.recipe
    measured = curve_updates(recipe.num_updates, recipe.batch_size, plan.products.eval_every)
    dtype = plan.products.export_dtype
    return [
        checkpoint(dtype),
        curve(measured[1] - measured[0], min(CURVE_ROWS, plan.evaluation.num_validation)),
        *(weights(update, dtype) for update in trial.kept_updates(plan.products.keep_every)),
    ]


def is_finished(plan: Plan, trial: TrialSpec, storage: Storage) -> bool:
    """True when the trial has a record with every product that is wanted; False while its id is pending.

    Not one whose training anew, with `--fresh`, was interrupted: its state waits to be gone on from.
    """
    record = storage.trial(trial.id)
    if record is None or not all(record.product(each.name) for each in wanted_products(plan, trial)):
        return False
    return not is_begun_anew(storage, record)
