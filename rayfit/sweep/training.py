"""One trial in a group's hands: its lease taken, trained with its states kept, its record published."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from rayfit.errors import TrialElsewhere, TrialError
from rayfit.plan.trials import curve_updates
from rayfit.records.leases import Holding, Lease, take, trial_lease
from rayfit.records.provenance import now
from rayfit.records.states import remove_states
from rayfit.records.storage import Storage, write_parquet
from rayfit.records.trial import TrialRecord
from rayfit.records.trials import new_attempt, publish_trial
from rayfit.sweep.trial import EngineFacts, GroupConfig, Times, TrialTask, engine_facts, keeping, trial_record

if TYPE_CHECKING:
    from rayfit.train.keeping import StateKeeper
    from rayfit.train.loop import TrainTask
    from rayfit.train.reset import Snapshot
    from rayfit.train.schedule import TrainResult


class TrialTraining:
    """One try at training a trial; every rank of the group has one and runs it alike. Rank 0 holds the trial's lease."""

    def __init__(
        self, config: GroupConfig, task: TrialTask, queue: Any, *, is_noticed: Callable[[], bool]
    ) -> None:
        """`queue`: the actor, which rank 0 tells of points and states. `is_noticed` as of `StateKeeper`."""
        self._config, self._task, self._queue, self._is_noticed = config, task, queue, is_noticed
        self._storage = Storage(config.storage)
        self._holding: Holding | None = None

    def run(self, engine: Any, snapshot: Snapshot, previous_end: float | None) -> tuple[TrialRecord, float]:
        """Train and, on rank 0, publish the record; the record and when the export was done. All ranks raise alike.

        Raises TrialElsewhere where another launch holds the lease, has trained the trial meanwhile, or takes it over; else
        as `train_trial`.
        """
        from rayfit.train.room import with_room

        times = Times(now(), previous_end)
        try:
            elsewhere, folder = with_room(self._begin, self._tell)
            if elsewhere:
                raise TrialElsewhere(elsewhere)
            attempt, facts = Path(folder), engine_facts(engine, self._config.adapter)
            result = self._train(engine, snapshot, attempt, facts)
            record = with_room(lambda: self._publish(result, attempt, facts, times), self._tell)
        finally:
            if self._holding is not None:
                self._holding.release()
        if record is None:
            raise TrialElsewhere("another launch has taken it over")
        if isinstance(record, str):
            raise TrialError(record)
        return record, result.exported_at

    def _tell(self, trouble: str) -> None:
        self._queue.kept.remote(self._config.group_id, self._task.id, 0, trouble)

    @property
    def _may_write(self) -> bool:
        """On rank 0: whether the trial is still this group's."""
        return self._holding is not None and self._holding.is_held

    def _begin(self) -> tuple[str, str]:
        """Take the lease: why the trial is not to be trained here, or the folder for this try."""
        task, launch = self._task, self._config.launch
        if self._holding is None:
            found = take(self._storage, trial_lease(task.id), launch, from_same_launch=True)
            if isinstance(found, Lease):
                return f"it is trained by {found.holder}", ""
            self._holding = found
        record = self._storage.trial(task.id)
        if record is not None and all(record.product(name) for name in task.wanted):
            is_new = record.finished_at != task.finished_before
            if is_new or not task.fresh:
                return "another launch has trained it meanwhile", ""
        return "", str(new_attempt(self._storage, task.id, launch))

    def _train(self, engine: Any, snapshot: Snapshot, attempt: Path, facts: EngineFacts) -> TrainResult:
        import torch.distributed as dist

        from rayfit.train.loop import train_trial
        from rayfit.train.together import from_all

        task = self._task
        train_task = self._train_task(attempt)
        keeper = self._keeper(attempt, facts)
        try:
            result = train_trial(
                engine, snapshot, train_task, lambda point: self._queue.point.remote(task.id, point), keeper
            )
        except TrialError:
            if dist.get_rank() == 0 and self._may_write:  # it would go wrong again from there
                shutil.rmtree(attempt, ignore_errors=True)
                remove_states(self._storage, task.id)
            raise
        from_all(None)  # nobody writes a part of a state any more
        return result

    def _publish(
        self, result: TrainResult, attempt: Path, facts: EngineFacts, times: Times
    ) -> TrialRecord | str | None:
        """The record as published, with its curve; why it cannot be, or None where it is not this group's to publish."""
        import polars as pl

        if not self._may_write:
            return None
        config, task = self._config, self._task
        record = trial_record(config.group_id, facts, task, result, attempt.name, times)
        curve = [msgspec.structs.asdict(point) for point in result.points]
        write_parquet(attempt / "curve.parquet", pl.DataFrame(curve, infer_schema_length=None))
        try:
            return publish_trial(
                self._storage, record, attempt=attempt, fresh=task.fresh, same_bits=not config.use_gpu
            )
        except TrialError as error:
            return str(error)

    def _keeper(self, attempt: Path, facts: EngineFacts) -> StateKeeper:
        from rayfit.train.keeping import StateKeeper

        config, task = self._config, self._task
        old = self._storage.trial(task.id)
        edition = 1 if old is None else old.edition + task.fresh
        return StateKeeper(
            keeping(config, task, facts, attempt, edition),
            is_noticed=self._is_noticed,
            tell=lambda update, trouble: self._queue.kept.remote(config.group_id, task.id, update, trouble),
            may_write=lambda: self._may_write,
        )

    def _train_task(self, attempt: Path) -> TrainTask:
        """The task as the training loop takes it, its rows read. All ranks call it."""
        import polars as pl

        from rayfit.data.rows import token_matrix
        from rayfit.train.loop import TrainTask
        from rayfit.train.together import from_rank_0

        task, schedule = self._task, self._task.schedule
        regular = curve_updates(schedule.num_updates, schedule.batch_size, task.eval_every)
        # A curve that is made again has the points of all weights that are kept, also of those that are not made again.
        measured = {*regular, *schedule.keep, *from_rank_0(self._kept_before)}
        return TrainTask(
            schedule=schedule,
            train_ids=token_matrix(pl.read_parquet(task.rows_path)),
            validation_ids=token_matrix(pl.read_parquet(task.validation_path).head(task.num_validation)),
            measured_updates=tuple(sorted(measured)),
            checkpoint_path=attempt / "checkpoint",
        )

    def _kept_before(self) -> list[int]:
        """The updates whose weights an earlier training of the trial has kept."""
        record = None if self._task.fresh else self._storage.trial(self._task.id)
        return [] if record is None else record.kept_updates
