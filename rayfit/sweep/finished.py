"""Which measurements are finished already: of the weights that count now, with the rows that are asked for."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from rayfit.plan.evaluations import ComparisonSpec, EvaluationSpec, PredictionSpec, Subject
from rayfit.plan.planning import Plan
from rayfit.records.storage import Storage
from rayfit.sweep.tasks import base_weights, matched_with


def predictions_finished(spec: PredictionSpec, storage: Storage) -> bool:
    """Whether predictions are recorded, with as many validation rows as are wanted."""
    record = storage.read("predictions", spec.id)
    return (
        record is not None
        and record["num_validation"] == spec.settings.num_validation
        and _of_these_weights(record, spec.subject, storage)
    )


def evaluation_finished(spec: EvaluationSpec, storage: Storage) -> bool:
    """Whether an evaluation is recorded whole: its predictions and, for a trial, its baseline in it."""
    record = storage.read("evaluations", spec.id)
    if record is None or not _of_these_weights(record, spec.subject, storage):
        return False
    if any(record.get(name) != value for name, value in matched_with(spec, storage).items()):
        return False
    baseline, predictions = spec.baseline, spec.predictions
    if baseline is not None and record.get("baseline_id") != baseline.id:
        return False
    return predictions is None or (
        record["num_validation"] == spec.settings.num_validation
        and predictions_finished(predictions, storage)
    )


def comparison_finished(spec: ComparisonSpec, storage: Storage) -> bool:
    """Whether a comparison is recorded, with the matched temperature if that is wanted."""
    record = storage.read("comparisons", spec.id)
    subject = Subject(model=spec.trial.model, trial=spec.trial)
    if record is None or not _of_these_weights(record, subject, storage):
        return False
    return bool(record["solves_temperature"]) or not spec.solves_temperature


def _of_these_weights(record: dict[str, Any], subject: Subject, storage: Storage) -> bool:
    if subject.trial is None:
        base = base_weights(subject.model, storage)
        return base is None or record["checkpoint_weights_sha256"] == base
    trained = storage.read("trials", str(subject.trial.id))
    return (
        trained is not None
        and record["checkpoint_weights_sha256"] == trained["weights_sha256"]
        and record["edition"] == trained["edition"]
    )


def unfinished(
    plan: Plan, storage: Storage, *, fresh: bool, retrained: Collection[str | None]
) -> list[EvaluationSpec | ComparisonSpec]:
    """The comparisons and evaluations that are left to do; all of those of trials that are trained again."""
    comparisons = [
        spec
        for spec in plan.comparisons
        if fresh or spec.trial.id in retrained or not comparison_finished(spec, storage)
    ]
    evaluations = [
        spec
        for spec in plan.evaluations
        if fresh
        or any(trial is not None and trial.id in retrained for trial in (spec.subject.trial, spec.matched_to))
        or not evaluation_finished(spec, storage)
    ]
    return [*comparisons, *evaluations]
