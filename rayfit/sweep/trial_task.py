"""What a worker group is handed to train one trial."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class TrialTask:
    """One trial as a group needs it: ids resolved to paths, numbers decided. `about` is copied into the record.

    `exchange`, `stop_at_train_loss`, `keep` (updates whose weights become products too) and `train_seed` mean what
    they mean in a `TrainTask`.
    """

    id: str
    rows_path: Path
    validation_path: Path
    model_path: Path
    samples: int
    sequence_length: int
    num_validation: int
    order_seed: int
    batch_size: int
    num_updates: int
    learning_rate: float
    eval_every: int | None
    export_dtype: str
    fresh: bool
    about: dict[str, Any]
    exchange: tuple[int, int] | None = None
    stop_at_train_loss: float | None = None
    keep: tuple[int, ...] = ()
    train_seed: int = 0
