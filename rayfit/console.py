"""The messages to a person while something runs: lines, and on a terminal a table of what is under way."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TextIO

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
        """Take note of what runs now, and how far all of it is. Only a terminal shows it; nothing running ends the table."""

    def close(self) -> None:
        """Leave the stream to others."""
        self.watch([])


class MakingStep(NamedTuple):
    """A finished update of making a model: its number from 1 on, of how many, its loss (nats per token), seconds left."""

    update: int
    num_updates: int
    loss: float
    seconds_left: float


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


def clock(seconds: float) -> str:
    """Minutes and seconds, with hours where there are any: 4:05, 1:00:07."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
