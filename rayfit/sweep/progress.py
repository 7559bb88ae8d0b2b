"""What is said of a launch while it runs: what runs now, what is done, how long the rest takes."""

from __future__ import annotations

import time
from collections.abc import Mapping

from rayfit.console import Console, Running, clock
from rayfit.plan.trials import TrialSpec
from rayfit.records.trial import Point
from rayfit.sweep.evaluators import EvaluationPool, Job
from rayfit.sweep.launch import Launch
from rayfit.sweep.queue import TrialState


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
        self._num_measurements = len(launch.measurements)
        self._num_updates = {key: trial.recipe.num_updates for key, trial in trials.items()}
        self._work = work
        self._progress = TrialProgress(launch.console, self._num_updates)

    def show(self, state: Mapping[str, TrialState], *, num_groups: int, takes_turns: bool = False) -> None:
        """Say what is new in the trial queue's state, and show what runs; `num_groups`: worker groups that there are.

        `takes_turns`: a group and an evaluator cannot hold what there is at the same time, so one waits for the other.
        """
        trials = self._progress.update(state)
        running = self._pool.running
        holding = [job for job in running if job.on_device] if takes_turns else []
        starting = [Running("starting", "worker group")] * max(0, num_groups - len(trials))
        if holding and trials:
            running = [job for job in running if job not in holding]
            count = len(holding) + self._pool.num_ready
            starting.append(Running("waiting", f"{count} measurements, until the worker group makes room"))
        elif holding and starting:
            starting = [Running("waiting", "worker group, until what waits is measured")]
        jobs = [_of_job(job) for job in running]
        waiting = [Running("waiting", "for a worker")] if not (trials or starting or jobs) else []
        self._console.watch([*trials, *starting, *jobs, *waiting], self._in_all(state))

    def _in_all(self, state: Mapping[str, TrialState]) -> str:
        """How much is done of everything, in a line."""
        ended = sum(trial.status in ("finished", "failed") for trial in state.values())
        num_measured = self._pool.num_measured
        left = seconds_left(
            state,
            self._num_updates,
            self._work,
            per_measurement=self._pool.seconds / num_measured if num_measured else None,
            to_measure=self._num_measurements - num_measured,
            at_once=self._at_once,
        )
        done = f"{ended} of {len(state)} trials, {num_measured} of {self._num_measurements} measurements"
        if left is None:
            return done
        about = "about" if num_measured or not self._num_measurements else "at least"
        return f"{done}; {about} {clock(left)} left in all"


def _of_job(job: Job) -> Running:
    return Running(job.stage.does, job.key, detail=f"for {clock(time.monotonic() - job.begun)}")


_EVERY_SECONDS = 15.0


class TrialProgress:
    """Turns the queue's states into lines: now and then while a trial gets on, and when it ends."""

    def __init__(self, console: Console, num_updates: dict[str, int]) -> None:
        self._console = console
        self._num_updates = num_updates
        self._told: dict[str, tuple[float, int]] = {}
        self._ended: set[str] = set()

    def update(self, state: Mapping[str, TrialState]) -> list[Running]:
        """Say what is new; returns the trials that are trained now."""
        running = []
        for trial_id, trial in state.items():
            if trial_id in self._ended:
                continue
            if trial.status in ("finished", "failed"):
                self._ended.add(trial_id)
                outcome = "trained" if trial.status == "finished" else f"FAILED: {trial.error}"
                self._console.say(f"{trial_id}  {outcome}")
            elif trial.status == "running":
                running.append(self._running(trial_id, trial.last_point))
        return running

    def _running(self, trial_id: str, point: Point | None) -> Running:
        total = self._num_updates[trial_id]
        if point is None:
            return Running("training", trial_id, 0, total)
        update = point.update
        detail = f"train loss {point.train_loss:.3f}  validation loss {point.validation_loss:.2f}"
        left = point.seconds / update * (total - update) if update else None
        self._tell(trial_id, update, f"update {update}/{total}  {detail}", left)
        return Running("training", trial_id, update, total, detail, left)

    def _tell(self, trial_id: str, update: int, line: str, left: float | None) -> None:
        """A line every few seconds, if the trial has got on since the last."""
        now = time.monotonic()
        last, last_update = self._told.get(trial_id, (-1e9, -1))
        if update != last_update and now - last >= _EVERY_SECONDS:
            self._told[trial_id] = now, update
            self._console.note(f"{trial_id}  {line}" + ("" if left is None else f"  {left:.0f} s left"))


def seconds_left(
    state: Mapping[str, TrialState],
    num_updates: Mapping[str, int],
    work: Mapping[str, float],
    *,
    per_measurement: float | None,
    to_measure: int,
    at_once: int,
) -> float | None:
    """Seconds until everything is trained and measured, or None while nothing shows how fast it goes.

    `state`: the trial queue's, by trial id; `num_updates` and `work` (in any one unit) of the whole of each trial.
    `per_measurement`: the seconds that one takes, None while none has ended; those `to_measure` then count for nothing.
    `at_once`: how many trials or measurements run beside each other.
    """
    # A failed trial has nothing left to do, and how long it took teaches nothing.
    trials = {trial_id: trial for trial_id, trial in state.items() if trial.status != "failed"}
    shares = {trial_id: _done(trial, num_updates[trial_id]) for trial_id, trial in trials.items()}
    seconds = sum(_seconds(trial) for trial_id, trial in trials.items() if shares[trial_id] > 0)
    done = sum(work[trial_id] * share for trial_id, share in shares.items())
    if not done if trials else per_measurement is None:
        return None
    per_unit = seconds / done if done else 0.0
    left = [per_unit * work[trial_id] * (1 - share) for trial_id, share in shares.items()]
    to_come = to_measure * (per_measurement or 0.0)
    # What is trained cannot be shared out further than one trial.
    return max((sum(left) + to_come) / max(1, at_once), max(left, default=0.0))


def _done(trial: TrialState, num_updates: int) -> float:
    """The share of a trial's updates that are done."""
    if trial.status == "finished":
        return 1.0
    point = trial.last_point
    return point.update / num_updates if trial.status == "running" and point else 0.0


def _seconds(trial: TrialState) -> float:
    if trial.seconds is not None:
        return trial.seconds
    return trial.last_point.seconds if trial.last_point else 0.0
