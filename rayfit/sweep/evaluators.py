"""Evaluations on Ray actors: which one runs when, and what happens when an actor dies."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rayfit.errors import RayfitError
from rayfit.plan.resources import evaluator_resources
from rayfit.plan.trials import unblocked
from rayfit.records.storage import Storage

MAX_TRIES = 3


class Evaluator:
    """The actor: holds nothing but its process, whose imports and compiled kernels the next evaluation finds warm."""

    def evaluate(self, task: Any, storage_root: str) -> str:
        """Run one evaluation; returns "" or, for what the user can mend, the error's text."""
        from rayfit.sweep.evaluation import evaluate

        try:
            evaluate(task, Storage(storage_root))
        except RayfitError as error:
            return str(error)
        return ""


@dataclass
class Job:
    """One evaluation on its way. `key` is (trial id or None for the original model, decoding name)."""

    key: tuple[str | None, str]
    task: Any
    tries: int = 0
    status: str = "waiting"  # waiting | running | finished | failed
    error: str = ""


@dataclass
class EvaluationPool:
    """Runs jobs on as many actors as it is told; an actor that dies costs its job one of three tries."""

    storage: Storage
    use_gpu: bool
    environment: dict[str, str]
    jobs: dict[tuple[str | None, str], Job] = field(default_factory=dict)
    _actors: list[Any] = field(default_factory=list)
    _running: dict[Any, tuple[Any, Job]] = field(default_factory=dict)

    def add(self, job: Job) -> None:
        """Ask for an evaluation."""
        self.jobs[job.key] = job

    @property
    def waits(self) -> bool:
        """Whether an evaluation waits for an actor."""
        return any(job.status == "waiting" and self._ready(job) for job in self.jobs.values())

    @property
    def num_actors(self) -> int:
        """Actors that hold resources now."""
        return len(self._actors)

    @property
    def done(self) -> bool:
        """Whether every job has ended."""
        return all(job.status in ("finished", "failed") for job in self.jobs.values())

    def _ready(self, job: Job) -> bool:
        # A trial's evaluation compares with the original's generations, so it waits for them to be there, or not.
        trial_id, _ = job.key
        baseline = self.jobs.get((None, unblocked(job.task.decoding).name))
        return trial_id is None or baseline is None or baseline.status in ("finished", "failed")

    def step(self, max_actors: int) -> list[Job]:
        """Collect what ended, start what can; returns the jobs that ended since the last call."""
        ended = self._collect()
        waiting = [job for job in self.jobs.values() if job.status == "waiting" and self._ready(job)]
        busy = {actor for actor, _ in self._running.values()}
        idle = [actor for actor in self._actors if actor not in busy]
        for job in waiting:
            if not idle and len(self._actors) < max_actors:
                idle.append(self._new_actor())
            if not idle:
                break
            actor = idle.pop()
            job.status, job.tries = "running", job.tries + 1
            self._running[actor.evaluate.remote(job.task, str(self.storage.root))] = (
                actor,
                job,
            )
        for actor in idle:  # nothing to do: its CPU is worth more elsewhere
            self._end(actor)
        return ended

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
            if job.status in ("finished", "failed"):
                ended.append(job)
        return ended

    def _new_actor(self) -> Any:
        import ray

        need = evaluator_resources(self.use_gpu)
        remote = ray.remote(num_cpus=need.cpus, num_gpus=need.gpus)(Evaluator)
        actor = remote.options(runtime_env={"env_vars": self.environment}).remote()
        self._actors.append(actor)
        return actor

    def _end(self, actor: Any) -> None:
        import ray

        self._actors.remove(actor)
        ray.kill(actor)
