"""How long a launch still takes, from what it has done so far. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Mapping

from rayfit.sweep.queue import TrialState


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
