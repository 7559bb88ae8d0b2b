"""What a person sees while a sweep runs: a line when something happens, and one per trial every few seconds."""

from __future__ import annotations

import sys
import time
from typing import Any, TextIO

_EVERY_SECONDS = 15.0


class Console:
    """Lines on the stream that was standard output when it was made (Tune redirects the current one)."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._begin = time.monotonic()

    def say(self, text: str) -> None:
        """A line, with the time since the start."""
        elapsed = int(time.monotonic() - self._begin)
        self.show(f"[{elapsed // 60:d}:{elapsed % 60:02d}] {text}")

    def show(self, text: str) -> None:
        """Lines as they are."""
        self._stream.write(text + "\n")
        self._stream.flush()


class TrialProgress:
    """Turns the queue's states into lines: when a trial starts, now and then while it runs, when it ends."""

    def __init__(self, console: Console, num_updates: dict[str, int]) -> None:
        self._console = console
        self._num_updates = num_updates
        self._told: dict[str, float] = {}
        self._ended: set[str] = set()

    def update(self, state: dict[str, dict[str, Any]]) -> None:
        """Say what is new."""
        for trial_id, trial in state.items():
            if trial_id in self._ended:
                continue
            if trial["status"] in ("finished", "failed"):
                self._ended.add(trial_id)
                outcome = "trained" if trial["status"] == "finished" else f"FAILED: {trial['error']}"
                self._console.say(f"{trial_id}  {outcome}")
            elif trial["status"] == "running" and (point := trial["last_point"]):
                now = time.monotonic()
                if now - self._told.get(trial_id, -1e9) >= _EVERY_SECONDS:
                    self._told[trial_id] = now
                    self._console.say(f"{trial_id}  {self._line(trial_id, point)}")

    def _line(self, trial_id: str, point: dict[str, Any]) -> str:
        total = self._num_updates[trial_id]
        line = (
            f"update {point['update']}/{total}  train loss {point['train_loss']:.3f}"
            f"  validation loss {point['validation_loss']:.2f}"
        )
        if point["update"]:
            left = point["seconds"] / point["update"] * (total - point["update"])
            line += f"  {left:.0f} s left"
        return line
