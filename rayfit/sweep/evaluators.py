"""Measuring on Ray actors: which job runs when, and what happens when an actor dies."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from rayfit.allocator import keep_freed_memory
from rayfit.errors import RayfitError
from rayfit.measure.bench import Bench
from rayfit.measure.stage import Stage, is_current, measure
from rayfit.plan.measurements import Measurement
from rayfit.plan.resources import evaluator_resources

MAX_TRIES = 3


class Evaluator:
    """The actor: holds its process, whose imports, compiled kernels and last model the next job finds warm."""

    def __init__(self) -> None:
        """Imports what nearly every job needs, which takes seconds: an actor may be there before its first job."""
        import rayfit.measure.generations
        import rayfit.measure.predictions
        import rayfit.measure.text_scores  # noqa: F401

        keep_freed_memory()

    def run(self, stage: Stage, spec: Measurement, bench: Bench, part: int | None) -> str:
        """Run a measurement, or one part of it; returns "" or, for what the user can mend, the error's text."""
        try:
            if part is None:
                measure(stage, spec, bench)
            else:
                assert stage.run_part is not None
                stage.run_part(spec, bench, part)
        except RayfitError as error:
            return str(error)
        return ""


@dataclass
class Job:
    """One piece of measuring. `key` is a record's id, or that and the part for a part of a measurement.

    It waits for `needs`, and fails when one of them does, and for `follows`, however these end. `place` says which model
    it loads: an actor that has it is given such jobs first.
    """

    key: str
    stage: Stage
    spec: Measurement
    place: str
    part: int | None = None
    again: bool = True
    needs: tuple[str, ...] = ()
    follows: tuple[str, ...] = ()
    tries: int = 0
    begun: float = 0.0  # on the monotonic clock, the last try
    status: str = "waiting"  # waiting | running | finished | failed
    error: str = ""

    @property
    def ended(self) -> bool:
        """Whether it has finished or failed."""
        return self.status in ("finished", "failed")


def jobs_of(
    stages: Mapping[str, Stage], spec: Measurement, bench: Bench, *, again: bool = False
) -> Iterator[Job]:
    """The jobs that make a measurement's record: its parts, where it has any, then the whole, which has its id.

    Call it when the subject's checkpoint is there. `again`: also where the record is current when its turn comes, for what
    it waited for may have turned out as it was.
    """
    stage, needs = stages[spec.kind], tuple(each.id for each in spec.inputs)
    place = f"{spec.loads.model.name} {spec.loads.readable}"
    parts = 0 if stage.num_parts is None else stage.num_parts(spec, bench)
    keys = []
    for part in range(parts):
        job = Job(f"{spec.id}#{part}", stage, spec, place, part=part, needs=needs, again=again)
        keys.append(job.key)
        yield job
    follows = tuple(each.id for each in spec.follows)
    yield Job(spec.id, stage, spec, place, needs=(*needs, *keys), follows=follows, again=again)


@dataclass
class EvaluationPool:
    """Runs jobs on as many actors as it is told; an actor that dies costs its job one of three tries.

    What a job waits for counts as there when the pool was never asked for it: then it was finished before.
    `share_cpus`: actors take no CPU of Ray's, so that one may stay, idle, for the next job: starting another takes as
    long as many a job. Whoever calls `step` then says how many may be busy.
    """

    bench: Bench
    use_gpu: bool
    environment: dict[str, str]
    share_cpus: bool = False
    jobs: dict[str, Job] = field(default_factory=dict)
    seconds: float = 0.0  # of actors, spent on jobs that have ended
    _actors: list[Any] = field(default_factory=list)
    _running: dict[Any, tuple[Any, Job]] = field(default_factory=dict)
    _places: dict[Any, str] = field(default_factory=dict)

    def add(self, job: Job) -> None:
        """Ask for a job; asking again changes nothing."""
        self.jobs.setdefault(job.key, job)

    @property
    def waits(self) -> bool:
        """Whether a job waits for an actor."""
        return bool(self._ready())

    @property
    def running(self) -> list[Job]:
        """The jobs that actors work on now."""
        return [job for _, job in self._running.values()]

    @property
    def num_actors(self) -> int:
        """Actors that hold resources now."""
        return len(self._running) if self.share_cpus else len(self._actors)

    @property
    def done(self) -> bool:
        """Whether every job has ended."""
        return all(job.ended for job in self.jobs.values())

    def _ready(self) -> list[Job]:
        def there(key: str) -> bool:
            return key not in self.jobs or self.jobs[key].ended

        waiting = (job for job in self.jobs.values() if job.status == "waiting")
        return [job for job in waiting if all(map(there, (*job.needs, *job.follows)))]

    def _fail_the_hopeless(self) -> list[Job]:
        """Jobs that wait for one that failed fail with its reason."""
        failed = []
        for job in self.jobs.values():
            broken = [
                self.jobs[key] for key in job.needs if key in self.jobs and self.jobs[key].status == "failed"
            ]
            if job.status == "waiting" and broken:
                job.status, job.error = "failed", broken[0].error
                failed.append(job)
        return failed

    def wait(self, seconds: float) -> None:
        """Wait until an actor is done, at most so long."""
        import ray

        if self._running:
            ray.wait(list(self._running), timeout=seconds)
        else:
            time.sleep(seconds)

    def step(self, max_actors: int, *, more: bool = False) -> list[Job]:
        """Collect what ended, start what can on at most so many actors; returns the jobs that ended since the last call.

        `more`: jobs will be added when those that are here have ended.
        """
        ended = self._collect()
        while hopeless := self._fail_the_hopeless():
            ended += hopeless
        ready = self._ready()
        busy = {actor for actor, _ in self._running.values()}
        idle = [actor for actor in self._actors if actor not in busy]
        while ready and (not self.share_cpus or len(self._running) < max_actors):
            if not idle and len(self._actors) < max_actors:
                idle.append(self._new_actor())
            if not idle:
                break
            actor = idle.pop()
            loaded = self._places.get(actor)
            job = next((job for job in ready if job.place == loaded), ready[0])
            ready.remove(job)
            if not self.is_left(job):
                job.status = "finished"
                ended.append(job)
                idle.append(actor)
                continue
            self._start(actor, job)
        if self.share_cpus and more and max_actors and not self._actors:
            idle.append(self._new_actor())  # there when the first trial has ended
        # Nothing to do: what it holds is worth more elsewhere.
        stays = self.share_cpus and (more or not self.done) and len(idle) == len(self._actors)
        for actor in idle[1:] if stays else idle:
            self._end(actor)
        return ended

    def is_left(self, job: Job) -> bool:
        """False for a job whose record is current when its turn comes: what it waited for turned out as it was."""
        return job.again or not is_current(job.spec, self.bench.storage)

    def _start(self, actor: Any, job: Job) -> None:
        job.status, job.tries, job.begun = "running", job.tries + 1, time.monotonic()
        self._places[actor] = job.place
        reference = actor.run.remote(job.stage, job.spec, self.bench, job.part)
        self._running[reference] = (actor, job)

    def _collect(self) -> list[Job]:
        import ray

        ended = []
        ready, _ = (
            ray.wait(list(self._running), num_returns=len(self._running), timeout=0)
            if self._running
            else ([], [])
        )
        for reference in ready:
            actor, job = self._running.pop(reference)
            try:
                job.error = ray.get(reference)
                job.status = "failed" if job.error else "finished"
            except ray.exceptions.RayTaskError as error:
                job.status, job.error = "failed", str(error).strip().splitlines()[-1]
            except ray.exceptions.RayError as error:  # the actor died, or was ended for memory
                self._end(actor)
                job.error = f"its evaluator died {job.tries} times: {str(error).splitlines()[0]}"
                job.status = "failed" if job.tries >= MAX_TRIES else "waiting"
            if job.ended:
                self.seconds += time.monotonic() - job.begun
                ended.append(job)
        return ended

    def _new_actor(self) -> Any:
        import ray

        need = evaluator_resources(self.use_gpu)
        remote = ray.remote(num_cpus=0 if self.share_cpus else need.cpus, num_gpus=need.gpus)(Evaluator)
        actor = remote.options(runtime_env={"env_vars": self.environment}).remote()
        self._actors.append(actor)
        return actor

    def _end(self, actor: Any) -> None:
        import ray

        self._actors.remove(actor)
        self._places.pop(actor, None)
        ray.kill(actor)
