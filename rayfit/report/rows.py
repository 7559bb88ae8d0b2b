"""The rows of a sweep: one per checkpoint, decoding and domain, joined from records by their ids."""

from __future__ import annotations

from typing import Any

from rayfit.errors import unknown
from rayfit.plan.trials import Plan, TrialSpec
from rayfit.records.storage import Storage
from rayfit.records.trials import is_hyperfitted
from rayfit.score.registry import SCORES

Row = dict[str, Any]

# Columns that every row has, in this order, before the other scores; null where they do not apply.
COLUMNS = (
    "arm",
    "trial_id",
    "decoding",
    "domain",
    "status",
    "reason",
    "samples",
    "updates",
    "epochs",
    "seed",
    "learning_rate",
    "hyperfitted",
    "train_loss_floor",
    "train_loss",
    "train_accuracy",
    "validation_loss",
    "entropy_nats",
    "ttr_last_96",
    "longest_overlap_mean",
    "original_longest_overlap_mean",
    "minutes",
    "overhead_seconds",
)

# Columns whose values are words or ids, which no axis can show.
_WORDS = ("arm", "trial_id", "decoding", "domain", "status", "reason")

NO_OVERLAP = "has no training rows of its own; each trial's row has its overlap with that trial's rows"


def check_columns(*names: str) -> None:
    """Raises RayfitError, with the nearest name, for a name that is no column of numbers of these rows."""
    valid = sorted({*COLUMNS, *SCORES} - set(_WORDS))
    for name in names:
        if name not in valid:
            raise unknown("sweep: plot", name, valid)


def sweep_rows(plan: Plan, storage: Storage, errors: dict[tuple[str | None, str], str]) -> list[Row]:
    """All rows of a sweep: the true continuations, the original model, then every trial, per decoding.

    `errors`: why a trial (any decoding) or an evaluation failed, by (trial id or None, decoding name). Losses and
    entropy come from the evaluator for every arm: one set of rows and one precision. What is missing is null, and
    `reason` says why.
    """
    rows = [_truth_row(plan, storage, errors)]
    for decoding in plan.decodings_of(None):
        record = storage.read("evaluations", plan.evaluation_id(None, decoding))
        row = _row(plan, "original", None, decoding.name, record, errors.get((None, decoding.name), ""))
        row["reason"] = row["reason"] or NO_OVERLAP
        rows.append(row)
    for trial in plan.trials:
        trained = storage.read("trials", str(trial.id))
        for decoding in plan.decodings:
            error = errors.get((trial.id, decoding.name), "")
            record = storage.read("evaluations", plan.evaluation_id(trial, decoding)) if not error else None
            row = _row(plan, "hyperfitted", trial, decoding.name, record, error)
            _add_trial(row, trial, trained)
            rows.append(row)
    return rows


def _empty(plan: Plan, arm: str, decoding: str | None) -> Row:
    row: Row = dict.fromkeys(COLUMNS)
    return {
        **row,
        "arm": arm,
        "decoding": decoding,
        "domain": plan.text.name,
        "status": "FINISHED",
        "intervals": {},
    }


def _truth_row(plan: Plan, storage: Storage, errors: dict[tuple[str | None, str], str]) -> Row:
    row = _empty(plan, "truth", None)
    row["reason"] = "true continuations have text scores only"
    for decoding in plan.decodings_of(None):
        record = storage.read("evaluations", plan.evaluation_id(None, decoding))
        if record is not None:
            _add_scores(row, record["truth"])
            return row
    failed = any((None, decoding.name) in errors for decoding in plan.decodings_of(None))
    row["status"] = "FAILED" if failed else "PENDING"
    row["reason"] = (
        "the original model's evaluation, which reads them, failed" if failed else "not evaluated yet"
    )
    return row


def _row(
    plan: Plan, arm: str, trial: TrialSpec | None, decoding: str, record: dict[str, Any] | None, error: str
) -> Row:
    row = _empty(plan, arm, decoding)
    row["trial_id"] = None if trial is None else trial.id
    if record is None or error:
        row["status"] = "FAILED" if error else "PENDING"
        row["reason"] = error or "not evaluated yet"
        return row
    _add_scores(row, record["scores"])
    if trial is None:
        row["minutes"] = round(record["seconds"]["total"] / 60, 3)
    return row


def _add_scores(row: Row, scores: dict[str, dict[str, Any]]) -> None:
    for name, entry in scores.items():
        row[name] = entry["value"]
        if entry["low"] is not None:
            row["intervals"][name] = [entry["low"], entry["high"]]


def _add_trial(row: Row, trial: TrialSpec, trained: dict[str, Any] | None) -> None:
    row |= {
        "samples": trial.selection.samples,
        "updates": trial.recipe.num_updates,
        "epochs": trial.epochs,
        "seed": trial.selection.sample_seed,
        "learning_rate": trial.recipe.learning_rate,
    }
    if trained is None:
        return
    row["train_loss_floor"] = trained["floor"]
    # The evaluator's loss decides where there is one; the worker's own, in training precision, until then.
    loss = row["train_loss"] if row["train_loss"] is not None else trained["final"]["train_loss"]
    row["hyperfitted"] = is_hyperfitted(loss, trained["floor"])
    row["minutes"] = round(trained["seconds"]["total"] / 60, 3)
    row["overhead_seconds"] = trained["overhead_seconds"]
    if row["status"] == "FINISHED" and not row["hyperfitted"]:
        row["reason"] = "not hyperfitted: the final training loss is more than 0.1 above its floor"
