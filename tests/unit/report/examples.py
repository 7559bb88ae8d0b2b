"""A sweep's records as groups and evaluators leave them, written by hand."""

from __future__ import annotations

from typing import Any

from rayfit.plan.plan import Plan
from rayfit.plan.trials import TrialSpec
from rayfit.records.storage import Storage

FLOOR = 0.01


def scores(**values: float | None) -> dict[str, dict[str, float | None]]:
    """Scores with an interval of 0.02 around each value."""
    return {
        name: {
            "value": value,
            "low": None if value is None else value - 0.02,
            "high": None if value is None else value + 0.02,
        }
        for name, value in values.items()
    }


def write_original(storage: Storage, plan: Plan, place: int = 0, **values: float | None) -> None:
    """The original model's evaluation under one decoding, and the true continuations' scores in it."""
    identifier = plan.evaluation_id(None, plan.decodings[place])
    found = {"ttr_last_96": 0.2, "validation_loss": 4.1, "entropy_nats": 4.0, "train_loss": None, **values}
    record = {"scores": scores(**found), "truth": scores(ttr_last_96=0.66), "seconds": {"total": 6.0}}
    storage.write("evaluations", identifier, record)


def write_trained(storage: Storage, trial: TrialSpec, *, own_loss: float = 0.05) -> None:
    """A finished trial, not evaluated."""
    record = {
        "id": trial.id,
        "floor": FLOOR,
        "final": {"train_loss": own_loss},
        "seconds": {"total": 90.0},
        "overhead_seconds": 0.25,
    }
    storage.write("trials", str(trial.id), record)


def write_evaluated(storage: Storage, plan: Plan, trial: TrialSpec, place: int = 0, **values: Any) -> None:
    """An evaluation of a trial under one decoding."""
    found = {
        "ttr_last_96": 0.6,
        "validation_loss": 8.0,
        "entropy_nats": 1.5,
        "train_loss": 0.05,
        "train_accuracy": 0.99,
        "longest_overlap_mean": 7.0,
        "original_longest_overlap_mean": 3.0,
        **values,
    }
    record = {"scores": scores(**found), "seconds": {"total": 6.0}}
    storage.write("evaluations", plan.evaluation_id(trial, plan.decodings[place]), record)


def write_all(storage: Storage, plan: Plan) -> None:
    """Everything of a sweep that went well."""
    for place in range(len(plan.decodings)):
        write_original(storage, plan, place)
    for trial in plan.trials:
        write_trained(storage, trial)
        for place in range(len(plan.decodings)):
            write_evaluated(storage, plan, trial, place, ttr_last_96=0.5 + trial.selection.samples / 1000)
