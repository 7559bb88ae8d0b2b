"""Stopping at a training loss, and keeping weights along the way: what of it makes sense."""

from __future__ import annotations

import math

from rayfit.errors import RayfitError
from rayfit.records.trial import loss_floor


def check_stop_loss(stop_at_train_loss: float, num_samples: int, sequence_length: int) -> None:
    """Raises RayfitError for a training loss (nats per token) that rows of this number and length cannot go below."""
    floor = loss_floor(num_samples, sequence_length)
    if not math.isfinite(stop_at_train_loss) or stop_at_train_loss <= floor:
        raise RayfitError(
            f"--stop-at-train-loss: expected more than {floor:.4g} nats, the least that {num_samples} rows of "
            f"{sequence_length} tokens can reach (ln(rows) / (tokens - 1)); got {stop_at_train_loss:g}"
        )


def check_kept(keep_every: float | None, stop_at_train_loss: float | None) -> None:
    """Raises RayfitError where weights cannot be promised to be kept."""
    if keep_every is not None and stop_at_train_loss is not None:
        raise RayfitError(
            "--keep-every: weights are kept at given updates, which a training that stops at a training loss may not "
            "reach; leave out --keep-every or --stop-at-train-loss"
        )
