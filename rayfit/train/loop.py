"""Training one trial in a built engine: the paper's section 3, measured along the way."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from rayfit.errors import TrialError
from rayfit.plan.dealing import deal, most_rows
from rayfit.plan.order import epoch_ends, epochs_of, update_rows
from rayfit.records.states import KeptWeights, Spent
from rayfit.records.trial import Point
from rayfit.train.adapters import adapted_modules, start_adapter
from rayfit.train.export import export
from rayfit.train.keeping import Keeper, Progress
from rayfit.train.loss import next_token_loss
from rayfit.train.measure import Measurement, measure
from rayfit.train.reset import Snapshot, restore
from rayfit.train.schedule import Schedule, TrainResult

_MOST_PENDING = 64  # losses that are not looked at; a training that has gone wrong ends so many updates later


@dataclass(frozen=True, kw_only=True)
class TrainTask:
    """One trial as a worker needs it: numbers and arrays, no ids to resolve.

    `train_ids` and `validation_ids`: int64 token rows. `measured_updates`: sorted, with 0 and the schedule's last in it.
    """

    schedule: Schedule
    train_ids: np.ndarray
    validation_ids: np.ndarray
    measured_updates: tuple[int, ...]
    checkpoint_path: Path

    def kept_path(self, update: int) -> Path:
        """Return where the weights kept after an update are exported: beside the checkpoint."""
        return self.checkpoint_path.with_name(f"weights-{update}")


def train_trial(
    engine: Any,
    snapshot: Snapshot,
    task: TrainTask,
    report: Callable[[Point], None],
    keeper: Keeper | None = None,
) -> TrainResult:
    """Reset the engine, train, measure, export. Every rank calls it with the same task; rank 0 reports points.

    With a keeper, from the state that it finds, whose points are reported first. Training rows are measured in evaluation
    mode: the first min(rows, validation rows) of them, at the end too, for the evaluator measures all of them then; but
    all where training stops at their loss. Raises TrialError, on all ranks alike, at a loss that is not finite, and
    TrialInterrupted when the keeper says so.
    """
    training = _Training(engine, snapshot, task, report, keeper)
    try:
        return training.run()
    finally:
        if keeper is not None:
            keeper.end()


class _Training:
    """One training as it goes: what was done and spent by now."""

    def __init__(
        self,
        engine: Any,
        snapshot: Snapshot,
        task: TrainTask,
        report: Callable[[Point], None],
        keeper: Keeper | None,
    ) -> None:
        self._engine, self._snapshot, self._task, self._keeper = engine, snapshot, task, keeper
        self._report, self._begin = report, time.monotonic()
        self._update, self._stopped = 0, False
        self._points: list[Point] = []
        self._kept: dict[int, KeptWeights] = {}
        self._seconds = {"measure": 0.0, "export": 0.0, "state": 0.0}
        self._losses = BatchLosses(task.schedule.num_updates)

    def run(self) -> TrainResult:
        task = self._task
        with self._timed("state"):
            self._start()
        measured_before = self._seconds["measure"]
        if self._update == 0:
            self._measure_point(None, None)
        first_measure, first_update_at = self._seconds["measure"] - measured_before, time.time()
        measured, may_stop = frozenset(task.measured_updates), _may_stop(task)
        while not self._is_over:
            self._do_update(measured, may_stop)
        if self._keeper is not None:
            with self._timed("state"):
                self._keeper.before_export(self._engine, self._progress)
        digest = self._export(task.checkpoint_path)
        if self._update in task.schedule.keep:
            self._kept[self._update] = _kept_weights(digest, task.checkpoint_path)
        return TrainResult(
            weights_sha256=digest,
            points=tuple(self._points),
            spent=self._spent(),
            first_update_at=first_update_at,
            first_measure_seconds=first_measure,
            exported_at=time.time(),
            updates=self._update,
            stopped_at_update=self._update if self._stopped else None,
            kept=self._kept,
            stretches=() if self._keeper is None else self._keeper.stretches,
        )

    @property
    def _is_over(self) -> bool:
        return self._stopped or self._update == self._task.schedule.num_updates

    def _start(self) -> None:
        """Reset the engine and, if there is a state, go on from it."""
        self._reset()
        found = None
        if self._keeper is not None:
            found = self._keeper.begin(self._engine, self._reset, self._task.measured_updates)
        if found is not None:
            self._update, self._stopped = found.update, found.stopped
            self._points, self._kept = list(found.points), dict(found.kept)
            self._seconds = {name: getattr(found.spent, name) for name in self._seconds}
            self._begin -= found.spent.total
            self._losses = BatchLosses(self._task.schedule.num_updates, after=found.update)
            if dist.get_rank() == 0:
                for point in found.points:
                    self._report(point)

    def _reset(self) -> None:
        engine, schedule = self._engine, self._task.schedule
        restore(engine, self._snapshot, seed=schedule.order_seed)
        if adapted_modules(engine.module):
            start_adapter(engine, schedule.train_seed)
        for group in engine.optimizer.param_groups:
            group["lr"] = schedule.learning_rate

    def _do_update(self, measured: frozenset[int], may_stop: frozenset[int]) -> None:
        """One update, and what belongs to it: its point, the look at the loss to stop at, weights that are kept, a state."""
        engine, task, losses = self._engine, self._task, self._losses
        schedule = task.schedule
        self._update = update = self._update + 1
        told = update in measured or update in may_stop
        norm = run_update(engine, task, update, losses, wants_norm=told)
        batch_loss = losses.last() if told or losses.num_pending >= _MOST_PENDING else None
        whole = None
        if schedule.stop_at_train_loss is not None and update in may_stop:
            with self._timed("measure"):
                whole = _measure_rows(engine, task, task.train_ids)
            # Every rank has the same sums, so all decide alike.
            self._stopped = whole.loss <= schedule.stop_at_train_loss
        if self._is_over or update in measured:
            self._measure_point(batch_loss, norm, whole=whole if self._is_over else None)
        if update in schedule.keep and not self._is_over:
            path = task.kept_path(update)
            self._kept[update] = _kept_weights(self._export(path), path)
        if self._keeper is not None and not self._is_over:
            with self._timed("state"):
                self._keeper.after_update(engine, update, self._progress)

    def _progress(self) -> Progress:
        """Where the training stands. Raises TrialError where it has gone wrong already: that is no state to go on from."""
        if self._losses.num_pending:
            self._losses.last()
        return Progress(
            update=self._update,
            stopped=self._stopped,
            points=tuple(self._points),
            kept=dict(self._kept),
            spent=self._spent(),
        )

    def _spent(self) -> Spent:
        total = time.monotonic() - self._begin
        return Spent(train=total - sum(self._seconds.values()), **self._seconds)

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        """Add the block's seconds to what was spent."""
        started = time.monotonic()
        yield
        self._seconds[what] += time.monotonic() - started

    def _export(self, path: Path) -> str:
        schedule = self._task.schedule
        with self._timed("export"):
            return export(self._engine, schedule.model_path, path, schedule.export_dtype, self._tell)

    def _tell(self, trouble: str) -> None:
        if self._keeper is not None:
            self._keeper.tell_trouble(self._update, trouble)

    def _measure_point(
        self, batch_loss: float | None, norm: float | None, *, whole: Measurement | None = None
    ) -> None:
        """Measure and report one point of the curve; `whole`: what was measured over all training rows, to be reported."""
        task, schedule = self._task, self._task.schedule
        rows = task.train_ids if whole else task.train_ids[: len(task.validation_ids)]
        with self._timed("measure"):
            train = whole or _measure_rows(self._engine, task, rows)
            validation = _measure_rows(self._engine, task, task.validation_ids)
        if not (math.isfinite(train.loss) and math.isfinite(validation.loss)):
            raise TrialError(f"the loss is not finite after update {self._update} of {schedule.num_updates}")
        if dist.get_rank() == 0:
            point = Point(
                update=self._update,
                epoch=epochs_of(self._update, schedule.batch_size, len(task.train_ids)),
                train_loss=train.loss,
                train_accuracy=train.accuracy,
                train_rows=len(rows),
                batch_loss=batch_loss,
                validation_loss=validation.loss,
                validation_entropy_nats=validation.entropy_nats,
                gradient_norm=norm,
                seconds=time.monotonic() - self._begin,
            )
            if self._keeper is not None:
                point = self._keeper.keep_point(point)
            self._points.append(point)
            self._report(point)


def _kept_weights(digest: str, path: Path) -> KeptWeights:
    """What is said of weights that were exported to a folder of the attempt, which is one of the trial's folder."""
    return KeptWeights(weights_sha256=digest, path=f"{path.parent.name}/{path.name}")


def _may_stop(task: TrainTask) -> frozenset[int]:
    """The updates after which the loss to stop at is looked at: the ends of epochs, and the last update."""
    if task.schedule.stop_at_train_loss is None:
        return frozenset()
    ends = epoch_ends(len(task.train_ids), task.schedule.batch_size, task.schedule.num_updates)
    return frozenset({*ends, task.schedule.num_updates})


class BatchLosses:
    """The mean loss of each batch over all workers; it leaves the device, and is looked at, when it is asked for."""

    def __init__(self, num_updates: int, *, after: int = 0) -> None:
        """`after`: the update before the first whose loss will be added."""
        self._num_updates, self._pending = num_updates, list[torch.Tensor]()
        self._update = after

    @property
    def num_pending(self) -> int:
        """How many have not been looked at."""
        return len(self._pending)

    def add(self, loss: torch.Tensor) -> None:
        """Take the next update's loss: the sum of this worker's weighted ones, whose mean over workers is the batch's."""
        self._pending.append(loss.detach())
        self._update += 1

    def last(self) -> float:
        """Return the last batch's loss, in nats per token. Raises TrialError where one since the last call is not finite."""
        losses = torch.stack(self._pending).double()
        self._pending.clear()
        # All ranks see the same numbers, so all decide alike.
        dist.all_reduce(losses)
        means = (losses / dist.get_world_size()).tolist()
        for update, mean in enumerate(means, start=self._update - len(means) + 1):
            if not math.isfinite(mean):
                raise TrialError(f"the training loss is {mean} at update {update} of {self._num_updates}")
        return float(means[-1])


def run_update(
    engine: Any, task: TrainTask, update: int, losses: BatchLosses, *, wants_norm: bool
) -> float | None:
    """Optimiser update `update`, from 1 on; its batch's loss goes to `losses`. The gradient's norm, if it is wanted."""
    rows = update_rows(
        len(task.train_ids),
        task.schedule.batch_size,
        task.schedule.order_seed,
        update - 1,
        task.schedule.exchange,
    )
    pieces = deal(task.schedule.batch_size, dist.get_world_size(), dist.get_rank(), task.schedule.micro_batch)
    total, norm = None, None
    for number, piece in enumerate(pieces, start=1):
        batch = torch.from_numpy(task.train_ids[rows[piece.begin : piece.end]]).to(engine.device)
        loss = next_token_loss(engine(input_ids=batch).logits, batch)
        if piece.weight != 1:
            loss = loss * piece.weight
        total = loss.detach() if total is None else total + loss.detach()
        engine.backward(loss, scale_wrt_gas=False)  # the weight has it
        if wants_norm and number == len(pieces) and engine.zero_optimization_stage() == 0:
            norm = _plain_norm(engine)  # stage 0 in fp32 keeps no norm of its own
        engine.step()  # which moves the weights after the last piece
    losses.add(total)
    if wants_norm and norm is None:
        norm = float(engine.get_global_grad_norm())
    # DeepSpeed leaves an update out, without a word, when a gradient overflows; a trial must not pass for trained then.
    if engine.skipped_steps or (norm is not None and not math.isfinite(norm)):
        losses.last()  # a loss that is not finite says more
        raise TrialError(f"the gradient is not finite at update {update} of {task.schedule.num_updates}")
    return norm


def _plain_norm(engine: Any) -> float:
    gradients = [parameter.grad for parameter in engine.module.parameters() if parameter.grad is not None]
    return float(
        torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g.float()) for g in gradients]))
    )


def _measure_rows(engine: Any, task: TrainTask, rows: np.ndarray) -> Measurement:
    schedule = task.schedule
    most = most_rows(schedule.batch_size, dist.get_world_size())
    return measure(engine, rows, batch_rows=min(schedule.micro_batch or most, most))
