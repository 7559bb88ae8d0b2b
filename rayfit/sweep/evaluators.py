"""Measuring on Ray actors: which job runs when, and what happens when an actor dies."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
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

    def run(self, stage: Stage, spec: Measurement, bench: Bench, part: int | None) -> tuple[str, float]:
        """Run a measurement, or one part of it; returns the seconds it took and, for what the user can mend, the error."""
        begin = time.monotonic()
        return self._run(stage, spec, bench, part), time.monotonic() - begin

    def _run(self, stage: Stage, spec: Measurement, bench: Bench, part: int | None) -> str:
        import torch

        from rayfit.gpu_memory import out_of_memory
        from rayfit.measure.checkpoint import let_go

        try:
            if part is None:
                measure(stage, spec, bench)
            else:
                assert stage.run_part is not None
                stage.run_part(spec, bench, part)
        except RayfitError as error:
            return str(error)
        except torch.OutOfMemoryError as error:
            let_go()
            return out_of_memory(error, "while measuring, also one text at a time")
        return ""


@dataclass
class Job:
    """One piece of measuring. `key` is a record's id, or that and the part for a part of a measurement.

    `on_device`: whether it loads one, which on GPUs takes one.
    It waits for `needs`, and fails when one of them does, and for `follows`, however these end. `place` says which model
    it loads: an actor that has it is given such jobs first.
    """

    key: str
    stage: Stage
    spec: Measurement
    place: str
    part: int | None = None
    on_device: bool = True
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
    yield Job(
        spec.id,
        stage,
        spec,
        place,
        on_device=stage.on_device(spec, bench),
        needs=(*needs, *keys),
        follows=follows,
        again=again,
    )


@dataclass
class EvaluationPool:
    """Runs jobs on as many actors as it is told; an actor that dies costs its job one of three tries.

    On GPUs there are actors of two kinds, with one and without, for jobs that load a model and jobs that do not.
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
    num_measured: int = 0  # whole measurements that have ended
    _waiting: dict[str, Job] = field(default_factory=dict)
    _broken: list[str] = field(default_factory=list)  # keys of failed jobs that others may still wait for
    _actors: list[Any] = field(default_factory=list)
    _running: dict[Any, tuple[Any, Job]] = field(default_factory=dict)
    _places: dict[Any, str] = field(default_factory=dict)
    _without_gpu: set[Any] = field(default_factory=set)

    def add(self, job: Job) -> None:
        """Ask for a job; asking again changes nothing."""
        if self.jobs.setdefault(job.key, job) is job:
            self._waiting[job.key] = job
            # What it needs may have failed before.
            self._broken += [
                key for key in job.needs if key in self.jobs and self.jobs[key].status == "failed"
            ]

    @property
    def waits(self) -> bool:
        """Whether a job waits for an actor; on GPUs, for one that has one."""
        return any(map(self._waits_for_device, self._waiting.values()))

    @property
    def num_ready(self) -> int:
        """How many they are."""
        return sum(map(self._waits_for_device, self._waiting.values()))

    def _waits_for_device(self, job: Job) -> bool:
        return self._takes_gpu(job) == self.use_gpu and self._is_ready(job)

    @property
    def running(self) -> list[Job]:
        """The jobs that actors work on now."""
        return [job for _, job in self._running.values()]

    @property
    def num_actors(self) -> int:
        """Actors that hold resources now; on GPUs, those that have one."""
        return len(self._running) if self.share_cpus else len(self._actors) - len(self._without_gpu)

    @property
    def done(self) -> bool:
        """Whether every job has ended."""
        return not (self._waiting or self._running)

    def _is_ready(self, job: Job) -> bool:
        return all(key not in self.jobs or self.jobs[key].ended for key in (*job.needs, *job.follows))

    def _takes_gpu(self, job: Job) -> bool:
        return self.use_gpu and job.on_device

    def _next_for(self, place: str | None, *, takes_gpu: bool) -> Job | None:
        """The first job that can be run, of those that load what is held at this place if there is one."""
        first = None
        for job in self._waiting.values():
            if (
                self._takes_gpu(job) == takes_gpu
                and (first is None or job.place == place)
                and self._is_ready(job)
            ):
                if job.place == place:
                    return job
                first = job
        return first

    def _set(self, job: Job, status: str, error: str = "") -> Job:
        """Give a job its status; what waits is looked through often, and there may be thousands."""
        job.status, job.error = status, error
        self._waiting.pop(job.key, None)
        if status == "waiting":
            self._waiting = {job.key: job, **self._waiting}  # it was before them
        if status == "failed":
            self._broken.append(job.key)
        if job.ended and job.part is None:
            self.num_measured += 1
        return job

    def _fail_the_hopeless(self) -> list[Job]:
        """Jobs that wait for one that failed fail with its reason."""
        failed = []
        while self._broken:
            broken = self._broken.pop()
            waiting = [job for job in self._waiting.values() if broken in job.needs]
            failed += [self._set(job, "failed", self.jobs[broken].error) for job in waiting]
        return failed

    def wait(self, seconds: float) -> None:
        """Wait until an actor is done, at most so long."""
        import ray

        if self._running:
            ray.wait(list(self._running), timeout=seconds)
        else:
            time.sleep(seconds)

    def step(self, max_actors: int, *, more: bool = False, max_without_gpu: int = 1) -> list[Job]:
        """Collect what ended, start what can on at most so many actors; returns the jobs that ended since the last call.

        `more`: jobs will be added when those that are here have ended. `max_without_gpu`: on GPUs, actors beside these.
        """
        ended = self._collect() + self._fail_the_hopeless()
        if self.use_gpu:
            ended += self._hand_out(max_without_gpu, more=more, takes_gpu=False)
        return ended + self._hand_out(max_actors, more=more, takes_gpu=self.use_gpu)

    def _hand_out(self, max_actors: int, *, more: bool, takes_gpu: bool) -> list[Job]:
        """Start what can on actors of one kind, and end those that have nothing to do; returns jobs that need not be run."""
        ended = []
        busy = {actor for actor, _ in self._running.values()}
        crew = [
            actor
            for actor in self._actors
            if (actor in self._without_gpu) == (self.use_gpu and not takes_gpu)
        ]
        idle = [actor for actor in crew if actor not in busy]
        num_actors = len(crew)
        while not self.share_cpus or len(self._running) < max_actors:
            actor = idle[-1] if idle else None
            if actor is None and num_actors >= max_actors:
                break
            job = self._next_for(None if actor is None else self._places.get(actor), takes_gpu=takes_gpu)
            if job is None:
                break
            if not self.is_left(job):
                ended.append(self._set(job, "finished"))
                continue
            if not idle:
                idle.append(self._new_actor(has_gpu=takes_gpu))
                num_actors += 1
            self._start(idle.pop(), job)
        if self.share_cpus and more and max_actors and not self._actors:
            idle.append(self._new_actor(has_gpu=False))  # there when the first trial has ended
        # Nothing to do: what it holds is worth more elsewhere.
        stays = self.share_cpus and (more or not self.done) and len(idle) == len(self._actors)
        for actor in idle[1:] if stays else idle:
            self._end(actor)
        return ended

    def is_left(self, job: Job) -> bool:
        """False for a job whose record is current when its turn comes: what it waited for turned out as it was."""
        return job.again or not is_current(job.spec, self.bench.storage)

    def _start(self, actor: Any, job: Job) -> None:
        self._set(job, "running")
        job.tries, job.begun = job.tries + 1, time.monotonic()
        self._places[actor] = job.place
        # An actor without a GPU must not so much as ask for its name.
        bench = self.bench if self._takes_gpu(job) or not self.use_gpu else replace(self.bench, device="cpu")
        reference = actor.run.remote(job.stage, job.spec, bench, job.part)
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
            seconds = 0.0  # of one that died nobody knows how long it waited for its GPU
            try:
                told, seconds = ray.get(reference)
                self._set(job, "failed" if told else "finished", told)
            except ray.exceptions.RayTaskError as error:
                self._end(actor)  # whatever it was, the next job finds a sound process
                reason = str(error).strip().splitlines()[-1]
                # After one such error every call to the GPU fails in that process.
                again = "CUDA error" in reason and job.tries < MAX_TRIES
                self._set(job, "waiting" if again else "failed", reason)
            except ray.exceptions.RayError as error:  # the actor died, or was ended for memory
                self._end(actor)
                reason = f"its evaluator died {job.tries} times: {str(error).splitlines()[0]}"
                self._set(job, "failed" if job.tries >= MAX_TRIES else "waiting", reason)
            if job.ended:
                self.seconds += seconds
                ended.append(job)
        return ended

    def _new_actor(self, *, has_gpu: bool) -> Any:
        import ray

        need = evaluator_resources(has_gpu)
        remote = ray.remote(num_cpus=0 if self.share_cpus else need.cpus, num_gpus=need.gpus)(Evaluator)
        # Ray hides no GPU from an actor that asks for none; on a Ray of our own without GPUs all are hidden already.
        on_gpus = self.use_gpu or bool(self.environment)
        hidden = {"CUDA_VISIBLE_DEVICES": ""} if on_gpus and not has_gpu else {}
        actor = remote.options(runtime_env={"env_vars": {**self.environment, **hidden}}).remote()
        self._actors.append(actor)
        if self.use_gpu and not has_gpu:
            self._without_gpu.add(actor)
        return actor

    def _end(self, actor: Any) -> None:
        import ray

        self._actors.remove(actor)
        self._places.pop(actor, None)
        self._without_gpu.discard(actor)
        ray.kill(actor)
