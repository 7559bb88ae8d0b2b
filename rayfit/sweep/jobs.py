"""From what is left to measure to jobs: what each waits for, and which of them belong to a record."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from rayfit.plan.evaluations import ComparisonSpec, EvaluationSpec, PredictionSpec
from rayfit.prepare.prepare import Prepared
from rayfit.records.storage import Storage
from rayfit.sweep.evaluators import Job
from rayfit.sweep.finished import predictions_finished
from rayfit.sweep.tasks import comparison_task, evaluation_task, prediction_task


def jobs_of(
    prepared: Prepared, spec: EvaluationSpec | ComparisonSpec, storage: Storage, *, fresh: bool
) -> Iterator[Job]:
    """The jobs that make a measurement's record; its own comes last and has its id.

    Call it when the subject's checkpoint is there. Predictions that are finished are not made again, unless `fresh`.
    """
    if isinstance(spec, ComparisonSpec):
        yield from _predictions(prepared, spec.predictions, storage, fresh)
        place = f"{spec.trial.model.name} original"
        task = partial(comparison_task, prepared, spec, storage)
        yield Job(spec.id, "compare", task, place, needs=(spec.predictions.id,))
        return
    needs: tuple[str, ...] = ()
    if spec.predictions is not None:
        yield from _predictions(prepared, spec.predictions, storage, fresh)
        needs = (spec.predictions.id,)
    task_of = partial(evaluation_task, prepared, spec, storage)
    solved = () if spec.comparison is None else (spec.comparison.id,)
    parts = []
    for part in range(len(task_of().parts)):
        job = Job(f"{spec.id}#{part}", f"generate {part}", task_of, _place(spec), needs=solved)
        parts.append(job.key)
        yield job
    # The original's texts are compared with a trial's rows, so it waits for them to be there, or not.
    follows = () if spec.baseline is None else (spec.baseline.id,)
    yield Job(spec.id, "score", task_of, _place(spec), needs=(*needs, *parts), follows=follows)


def _predictions(prepared: Prepared, spec: PredictionSpec, storage: Storage, fresh: bool) -> Iterator[Job]:
    if fresh or not predictions_finished(spec, storage):
        yield Job(spec.id, "predict", partial(prediction_task, prepared, spec, storage), _place(spec))


def _place(spec: EvaluationSpec | PredictionSpec) -> str:
    """The checkpoint that a job loads."""
    return f"{spec.subject.model.name} {spec.subject.readable}"
