"""The products that a plan wants of a trial. A trial is finished for a plan when its record has all of them."""

from __future__ import annotations

from rayfit.plan.planning import Plan
from rayfit.plan.trials import TrialSpec, curve_updates
from rayfit.records.storage import Storage
from rayfit.records.trials import checkpoint_product, curve_product, kept_product


def wanted_products(plan: Plan, trial: TrialSpec) -> list[str]:
    """Return the products that this plan needs of a trial."""
    measured = curve_updates(trial.recipe.num_updates, plan.products.eval_every)
    dtype = plan.products.export_dtype
    return [
        checkpoint_product(dtype),
        curve_product(measured[1] - measured[0], plan.evaluation.num_validation),
        *(kept_product(update, dtype) for update in trial.kept_updates(plan.products.keep_every)),
    ]


def is_finished(plan: Plan, trial: TrialSpec, storage: Storage) -> bool:
    """True when the trial has a record with every product that is wanted; False while its id is pending."""
    record = None if trial.id is None else storage.read("trials", trial.id)
    return record is not None and all(name in record["products"] for name in wanted_products(plan, trial))
