"""Training one trial in a built engine: the paper's section 3, measured along the way."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from rayfit.data.order import epochs_of, update_rows
from rayfit.errors import TrialError
from rayfit.train.export import export
from rayfit.train.measure import measure
from rayfit.train.reset import Snapshot, restore


@dataclass(frozen=True, kw_only=True)
class TrainTask:
    """One trial as a worker needs it: numbers and arrays, no ids to resolve.

    `train_ids` and `validation_ids`: int64 token rows. `measured_updates`: sorted, with 0 and `num_updates` in it.
    """

    train_ids: np.ndarray
    validation_ids: np.ndarray
    batch_size: int
    num_updates: int
    learning_rate: float
    order_seed: int
    measured_updates: tuple[int, ...]
    model_path: Path
    checkpoint_path: Path
    export_dtype: str


@dataclass(frozen=True)
class TrainResult:
    """What a finished trial reports: digest of its fp32 masters, seconds spent, and moments (seconds since the epoch)."""

    weights_sha256: str
    train_seconds: float
    measure_seconds: float
    export_seconds: float
    first_update_at: float
    first_measure_seconds: float
    exported_at: float


Point = dict[str, Any]


def train_trial(
    engine: Any, snapshot: Snapshot, task: TrainTask, report: Callable[[Point], None]
) -> TrainResult:
    """Reset the engine, train, measure, export. Every rank calls it with the same task; rank 0 reports points.

    A point has: update, epoch, train_loss and train_accuracy (evaluation mode; the first min(rows, validation rows)
    rows along the way, all rows at the end), batch_loss, validation_loss, validation_entropy_nats, gradient_norm
    (null at update 0), train_rows, seconds. Raises TrialError, on all ranks alike, at a loss that is not finite.
    """
    restore(engine, snapshot, seed=task.order_seed)
    for group in engine.optimizer.param_groups:
        group["lr"] = task.learning_rate
    begin = time.monotonic()
    measuring = _measure_point(engine, task, 0, None, None, begin, report)
    first_measure, first_update_at = measuring, time.time()
    measured = frozenset(task.measured_updates)
    for update in range(task.num_updates):
        batch_loss, norm = _update(engine, task, update, wants_norm=update + 1 in measured)
        if update + 1 in measured:
            measuring += _measure_point(engine, task, update + 1, batch_loss, norm, begin, report)
    trained = time.monotonic()
    digest = export(engine, task.model_path, task.checkpoint_path, task.export_dtype)
    return TrainResult(
        weights_sha256=digest,
        train_seconds=trained - begin - measuring,
        measure_seconds=measuring,
        export_seconds=time.monotonic() - trained,
        first_update_at=first_update_at,
        first_measure_seconds=first_measure,
        exported_at=time.time(),
    )


def _update(engine: Any, task: TrainTask, update: int, *, wants_norm: bool) -> tuple[float, float | None]:
    """One optimiser update; the batch's mean loss over all workers and, when wanted, its gradient's norm."""
    share = task.batch_size // dist.get_world_size()
    rows = update_rows(len(task.train_ids), task.batch_size, task.order_seed, update)
    mine = rows[dist.get_rank() * share : (dist.get_rank() + 1) * share]
    batch = torch.from_numpy(task.train_ids[mine]).to(engine.device)
    loss = engine(input_ids=batch, labels=batch).loss
    # The mean of equal shares is the batch's mean; all ranks see the same number, so all decide alike.
    total = loss.detach().double()
    dist.all_reduce(total)
    batch_loss = float(total) / dist.get_world_size()
    if not math.isfinite(batch_loss):
        raise TrialError(f"the training loss is {batch_loss} at update {update + 1} of {task.num_updates}")
    engine.backward(loss)
    norm = None
    if wants_norm and engine.zero_optimization_stage() == 0:
        norm = _plain_norm(engine)  # stage 0 in fp32 keeps no norm of its own
    engine.step()
    if wants_norm and norm is None:
        norm = float(engine.get_global_grad_norm())
    # DeepSpeed leaves an update out, without a word, when a gradient overflows; a trial must not pass for trained then.
    if engine.skipped_steps or (norm is not None and not math.isfinite(norm)):
        raise TrialError(f"the gradient is not finite at update {update + 1} of {task.num_updates}")
    return batch_loss, norm


def _plain_norm(engine: Any) -> float:
    gradients = [parameter.grad for parameter in engine.module.parameters() if parameter.grad is not None]
    return float(
        torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g.float()) for g in gradients]))
    )


def _measure_point(
    engine: Any,
    task: TrainTask,
    update: int,
    batch_loss: float | None,
    norm: float | None,
    begin: float,
    report: Callable[[Point], None],
) -> float:
    """Measure and report one point of the curve; returns the seconds it took."""
    started = time.monotonic()
    last = update == task.num_updates
    rows = task.train_ids if last else task.train_ids[: len(task.validation_ids)]
    batch_rows = max(1, task.batch_size // dist.get_world_size())
    train = measure(engine, rows, batch_rows=batch_rows)
    validation = measure(engine, task.validation_ids, batch_rows=batch_rows)
    if not (math.isfinite(train.loss) and math.isfinite(validation.loss)):
        raise TrialError(f"the loss is not finite after update {update} of {task.num_updates}")
    if dist.get_rank() == 0:
        report(
            {
                "update": update,
                "epoch": epochs_of(update, task.batch_size, len(task.train_ids)),
                "train_loss": train.loss,
                "train_accuracy": train.accuracy,
                "train_rows": len(rows),
                "batch_loss": batch_loss,
                "validation_loss": validation.loss,
                "validation_entropy_nats": validation.entropy_nats,
                "gradient_norm": norm,
                "seconds": time.monotonic() - begin,
            }
        )
    return time.monotonic() - started
