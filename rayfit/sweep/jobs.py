"""What is left to measure, and the jobs that do it: what each waits for."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from rayfit.measure.bench import Bench
from rayfit.measure.stage import Stage, is_current
from rayfit.plan.measurements import Measurement
from rayfit.plan.plan import Plan
from rayfit.records.storage import Storage
from rayfit.sweep.evaluators import Job


def unfinished(
    plan: Plan, storage: Storage, *, fresh: bool, retrained: Collection[str | None]
) -> list[Measurement]:
    """The measurements that are left to do; all of those of trials that are trained again."""
    return [
        spec
        for spec in plan.measurements
        if fresh or (spec.trial is not None and spec.trial.id in retrained) or not is_current(spec, storage)
    ]


def jobs_of(stages: Mapping[str, Stage], spec: Measurement, bench: Bench) -> Iterator[Job]:
    """The jobs that make a measurement's record: its parts, where it has any, then the whole, which has its id.

    Call it when the subject's checkpoint is there.
    """
    stage, needs = stages[spec.kind], tuple(each.id for each in spec.inputs)
    place = f"{spec.subject.model.name} {spec.subject.readable}"
    parts = 0 if stage.num_parts is None else stage.num_parts(spec, bench)
    keys = []
    for part in range(parts):
        job = Job(f"{spec.id}#{part}", stage, spec, place, part=part, needs=needs)
        keys.append(job.key)
        yield job
    follows = tuple(each.id for each in spec.follows)
    yield Job(spec.id, stage, spec, place, needs=(*needs, *keys), follows=follows)
