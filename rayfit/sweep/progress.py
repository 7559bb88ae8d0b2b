"""What a person sees while a launch runs: lines when something happens, and on a terminal a table of what runs."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from rayfit.train.steps import MakingStep

_EVERY_SECONDS = 15.0
_MAKING_EVERY_SECONDS = 10.0


@dataclass(frozen=True)
class Running:
    """One thing that runs now: `done` of `total` updates, or a `total` of 0 where nobody knows how much there is."""

    what: str
    name: str
    done: int = 0
    total: int = 0
    detail: str = ""
    seconds_left: float | None = None


class Console:
    """Lines on the stream that was standard output when it was made (Tune redirects the current one)."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._begin = time.monotonic()

    def say(self, text: str) -> None:
        """A line, with the time since the start."""
        elapsed = int(time.monotonic() - self._begin)
        self.show(f"[{elapsed // 60:d}:{elapsed % 60:02d}] {text}")

    def note(self, text: str) -> None:
        """A line about something that goes on; left out where `watch` shows it."""
        self.say(text)

    def show(self, text: str) -> None:
        """Lines as they are."""
        self._stream.write(text + "\n")
        self._stream.flush()

    def watch(self, running: Sequence[Running], in_all: str = "") -> None:
        """What runs now, and how far all of it is. Shown on terminals alone; nothing running ends the table."""

    def close(self) -> None:
        """Leave the stream to others."""
        self.watch([])


class MakingProgress:
    """Shows how far the making of an embedded model is."""

    def __init__(self, console: Console, name: str) -> None:
        self._console, self._name = console, name
        self._told = time.monotonic()

    def __call__(self, step: MakingStep) -> None:
        """Called by the process that makes the model, every second or so."""
        detail = f"loss {step.loss:.2f}"
        running = Running("making", self._name, step.update, step.num_updates, detail, step.seconds_left)
        self._console.watch([running])
        if (now := time.monotonic()) - self._told > _MAKING_EVERY_SECONDS:
            self._told = now
            self._console.note(
                f"  {self._name}: update {step.update}/{step.num_updates}, {detail}, {step.seconds_left:.0f} s left"
            )


class TrialProgress:
    """Turns the queue's states into lines: now and then while a trial gets on, and when it ends."""

    def __init__(self, console: Console, num_updates: dict[str, int]) -> None:
        self._console = console
        self._num_updates = num_updates
        self._told: dict[str, tuple[float, int]] = {}
        self._ended: set[str] = set()

    def update(self, state: dict[str, dict[str, Any]]) -> list[Running]:
        """Say what is new; returns the trials that are trained now."""
        running = []
        for trial_id, trial in state.items():
            if trial_id in self._ended:
                continue
            if trial["status"] in ("finished", "failed"):
                self._ended.add(trial_id)
                outcome = "trained" if trial["status"] == "finished" else f"FAILED: {trial['error']}"
                self._console.say(f"{trial_id}  {outcome}")
            elif trial["status"] == "running":
                running.append(self._running(trial_id, trial["last_point"]))
        return running

    def _running(self, trial_id: str, point: dict[str, Any] | None) -> Running:
        total = self._num_updates[trial_id]
        if point is None:
            return Running("training", trial_id, 0, total)
        update = point["update"]
        detail = f"train loss {point['train_loss']:.3f}  validation loss {point['validation_loss']:.2f}"
        left = point["seconds"] / update * (total - update) if update else None
        self._tell(trial_id, update, f"update {update}/{total}  {detail}", left)
        return Running("training", trial_id, update, total, detail, left)

    def _tell(self, trial_id: str, update: int, line: str, left: float | None) -> None:
        """A line every few seconds, if the trial has got on since the last."""
        now = time.monotonic()
        last, last_update = self._told.get(trial_id, (-1e9, -1))
        if update != last_update and now - last >= _EVERY_SECONDS:
            self._told[trial_id] = now, update
            self._console.note(f"{trial_id}  {line}" + ("" if left is None else f"  {left:.0f} s left"))


def clock(seconds: float) -> str:
    """Minutes and seconds, with hours where there are any: 4:05, 1:00:07."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
