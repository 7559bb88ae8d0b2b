"""How one trial is trained, in numbers: what the plan decided and the loop does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The updates of a trial and what is exported of it.

    `order_seed` decides the order of rows; `exchange`: two rows that take each other's place in every epoch.
    `stop_at_train_loss` (nats): training stops at the end of the first epoch at which the loss over all rows is at most
    this. `keep`: updates, each a measured one, whose weights are exported too. `train_seed` decides where an adapter
    starts. `model_path`: the directory that exports take configuration and tokenizer from.
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
