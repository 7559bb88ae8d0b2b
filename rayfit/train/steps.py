"""How far a training is, as it is told from one process to another. No torch, so that anyone can read it."""

from __future__ import annotations

from typing import NamedTuple


class MakingStep(NamedTuple):
    """After an update of making a model: its number from 1 on, of how many, its loss (nats per token), seconds left."""

    update: int
    num_updates: int
    loss: float
    seconds_left: float
