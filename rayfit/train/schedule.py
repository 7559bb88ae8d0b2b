"""How one trial is trained, in numbers, and what its training reports."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rayfit.records.states import KeptWeights, Spent
from rayfit.records.trial import Point, Stretch


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The updates of a trial and what is exported of it.

    `order_seed` decides the order of rows; `exchange`: two rows that take each other's place in every epoch.
    `stop_at_train_loss` (nats): training stops at the end of the first epoch at which the loss over all rows is at most
    this. `keep`: updates, each a measured one, whose weights are exported too. `train_seed` decides where an adapter
    starts. `micro_batch`: rows that a worker computes at once, None for all of its own.
    `model_path`: the directory that exports take configuration and tokenizer from.
    """

    batch_size: int
    num_updates: int
    learning_rate: float
    order_seed: int
    model_path: Path
    export_dtype: str
    exchange: tuple[int, int] | None = None
    stop_at_train_loss: float | None = None
    keep: tuple[int, ...] = ()
    train_seed: int = 0
    micro_batch: int | None = None


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What a finished trial reports: digest of its fp32 masters, seconds spent, and moments (seconds since the epoch).

    `points`: the curve, whole on rank 0 alone. `updates` were done; `stopped_at_update` is the last of them where the loss
    to stop at was reached, else None. `kept`: by update, what was kept along the way; the weights after the last update
    are the checkpoint. `stretches`: who trained the updates, where an earlier try had begun; else empty.
    """

    weights_sha256: str
    points: tuple[Point, ...]
    spent: Spent
    first_update_at: float
    first_measure_seconds: float
    exported_at: float
    updates: int
    stopped_at_update: int | None
    kept: dict[int, KeptWeights]
    stretches: tuple[Stretch, ...] = ()
