"""What a launch says of its trials."""

from __future__ import annotations

import time
from collections.abc import Mapping

from rayfit.console import Console, Running
from rayfit.records.trial import Point
from rayfit.sweep.queue import TrialState

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
