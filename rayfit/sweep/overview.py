"""What of a launch runs now, what is done, and how long the rest takes."""

from __future__ import annotations

import time
from collections.abc import Mapping

from rayfit.console import Running, clock
from rayfit.plan.trials import TrialSpec
from rayfit.sweep.evaluators import EvaluationPool, Job
from rayfit.sweep.launch import Launch
from rayfit.sweep.progress import TrialProgress
from rayfit.sweep.queue import TrialState
from rayfit.sweep.time_left import seconds_left


class Overview:
    """Tells the launch's console about trials and measurements.

    `work`: how long each trial takes, in any one unit; `at_once`: how many trials and measurements can run.
    """

    def __init__(
        self,
        launch: Launch,
        trials: Mapping[str, TrialSpec],
        work: Mapping[str, float],
        pool: EvaluationPool,
        *,
        at_once: int,
    ) -> None:
        self._console, self._pool, self._at_once = launch.console, pool, at_once
        self._measurements = [spec.id for spec in launch.measurements]
        self._num_updates = {key: trial.recipe.num_updates for key, trial in trials.items()}
        self._work = work
        self._progress = TrialProgress(launch.console, self._num_updates)

    def show(self, state: Mapping[str, TrialState], *, num_groups: int) -> None:
        """Say what is new in the trial queue's state, and show what runs; `num_groups`: worker groups that there are."""
        trials = self._progress.update(state)
        starting = [Running("starting", "worker group")] * max(0, num_groups - len(trials))
        jobs = [_of_job(job) for job in self._pool.running]
        waiting = [Running("waiting", "for a worker")] if not (trials or starting or jobs) else []
        self._console.watch([*trials, *starting, *jobs, *waiting], self._in_all(state))

    def _in_all(self, state: Mapping[str, TrialState]) -> str:
        """How much is done of everything, in a line."""
        ended = sum(trial.status in ("finished", "failed") for trial in state.values())
        measured = [self._pool.jobs[key] for key in self._measurements if key in self._pool.jobs]
        num_measured = sum(job.ended for job in measured)
        left = seconds_left(
            state,
            self._num_updates,
            self._work,
            per_measurement=self._pool.seconds / num_measured if num_measured else None,
            to_measure=len(self._measurements) - num_measured,
            at_once=self._at_once,
        )
        done = f"{ended} of {len(state)} trials, {num_measured} of {len(self._measurements)} measurements"
        if left is None:
            return done
        about = "about" if num_measured or not self._measurements else "at least"
        return f"{done}; {about} {clock(left)} left in all"


def _of_job(job: Job) -> Running:
    return Running(job.stage.does, job.key, detail=f"for {clock(time.monotonic() - job.begun)}")
