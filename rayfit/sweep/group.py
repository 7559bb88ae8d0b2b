"""A worker group's workers: each serves the queue until nothing is left, training trial after trial."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from rayfit.allocator import keep_freed_memory
from rayfit.devices import make_deterministic
from rayfit.errors import TrialElsewhere, TrialError, TrialInterrupted, WeightsError, first_line
from rayfit.plan.trials import curve_updates
from rayfit.records.leases import Holding, Lease, take, trial_lease
from rayfit.records.provenance import now
from rayfit.records.states import remove_states
from rayfit.records.storage import Storage, write_parquet
from rayfit.records.trial import TrialRecord
from rayfit.records.trials import LOGS, new_attempt, publish_trial
from rayfit.sweep.nodes import dead_nodes
from rayfit.sweep.trial import GroupConfig, Times, TrialTask, engine_facts, keeping, trial_record

if TYPE_CHECKING:
    from rayfit.train.keeping import Keeping, StateKeeper
    from rayfit.train.reset import Snapshot
    from rayfit.train.schedule import TrainResult

log = logging.getLogger("rayfit.group")

_WAIT_SECONDS = 0.1
_LAST_WORDS_SECONDS = 5.0


def group_loop(passed: dict[str, GroupConfig]) -> None:
    """Serve the queue as one worker of a group (Ray Train's `train_loop_per_worker`, which is passed a dict)."""
    import ray
    import ray.train

    config = passed["config"]
    rank = ray.train.get_context().get_world_rank()
    folder = config.storage / LOGS / "groups"
    with _logging_to(folder / f"{config.group_id}-rank{rank}.log"):
        queue = ray.get_actor(config.queue, namespace=config.namespace)
        try:
            _serve(config, queue, rank)
        except BaseException as error:
            log.exception("the group's worker of rank %d ends", rank)
            with suppress(Exception):  # what ends this worker says more than what ends the queue
                words = f"{type(error).__name__}: {first_line(error)}"
                ray.get(queue.dies.remote(config.group_id, words), timeout=_LAST_WORDS_SECONDS)
            raise


def _serve(config: GroupConfig, queue: Any, rank: int) -> None:
    import ray

    os.environ["DS_ACCELERATOR"] = "cuda" if config.use_gpu else "cpu"  # whatever a shell says
    import torch
    import torch.distributed as dist

    from rayfit.gpu_memory import out_of_memory
    from rayfit.train.engine import build_engine, start_process_group
    from rayfit.train.together import from_all, from_rank_0

    torch.set_num_threads(config.num_threads)
    if config.use_gpu:
        make_deterministic()
    else:
        keep_freed_memory()
    start_process_group(use_gpu=config.use_gpu)

    def agree(method: str, *arguments: Any) -> Any:
        """Rank 0 asks the queue; every rank gets its answer."""
        return from_rank_0(lambda: ray.get(getattr(queue, method).remote(config.group_id, *arguments)))

    nodes = tuple(from_all(ray.get_runtime_context().get_node_id()))
    if not agree("hello", nodes, dead_nodes()):
        return
    try:
        engine = build_engine(
            config.model_path,
            config.deepspeed,
            config.adapter,
            use_gpu=config.use_gpu,
            checkpoint_activations=config.checkpoint_activations,
        )
        _serve_trials(config, queue, rank, engine, agree)
    except (WeightsError, torch.OutOfMemoryError) as error:
        # Starting again would end here again, so the queue is told. Whether other ranks are here is not known, so nothing
        # is agreed upon with them: where there are any, this worker must fail, and its group with it.
        reason = str(error) if isinstance(error, WeightsError) else out_of_memory(error, "in training")
        log.error(reason)
        ray.get(queue.cannot_train.remote(config.group_id, reason))
        if dist.get_world_size() > 1:
            raise
    dist.destroy_process_group()


def _serve_trials(config: GroupConfig, queue: Any, rank: int, engine: Any, agree: Callable[..., Any]) -> None:
    """Train what the queue hands out until it closes the group."""
    from rayfit.train.reset import take_snapshot

    snapshot = take_snapshot(engine)
    previous_end: float | None = None
    while True:
        order, task = agree("next")
        if order == "close":
            return
        if order == "wait":
            time.sleep(_WAIT_SECONDS)
            continue
        previous_end = _train(config, queue, rank, engine, snapshot, task, previous_end)


def _train(
    config: GroupConfig,
    queue: Any,
    rank: int,
    engine: Any,
    snapshot: Snapshot,
    task: TrialTask,
    previous_end: float | None,
) -> float:
    """Train one trial and tell the queue; returns when its export was done, from when on time is overhead."""
    import ray

    storage = Storage(config.storage)
    group_id = config.group_id
    with _logging_to(storage.folder("trials", task.id) / LOGS / f"rank{rank}.log"):
        try:
            log.info("trial %s in group %s, rank %d, process %d", task.id, group_id, rank, os.getpid())
            record, idle_from = _train_and_record(
                config, queue, rank, engine, snapshot, task, previous_end, storage
            )
            if rank == 0:
                ray.get(queue.finish.remote(group_id, task.id, record.seconds.total))
        except TrialInterrupted as error:
            idle_from = time.time()
            log.info("trial %s: %s", task.id, error)
            if rank == 0:
                ray.get(queue.interrupted.remote(group_id, task.id))
        except TrialElsewhere as error:
            idle_from = time.time()
            log.info("trial %s: %s", task.id, error)
            if rank == 0:
                ray.get(queue.elsewhere.remote(group_id, task.id, str(error)))
        except TrialError as error:
            # Raised on every rank from the same reduced numbers: the group itself is sound.
            idle_from = time.time()
            log.error("trial %s failed: %s", task.id, error)
            if rank == 0:
                ray.get(queue.fail.remote(group_id, task.id, str(error)))
        except BaseException:
            log.exception("trial %s: this worker fails, and its group with it", task.id)
            raise
    return idle_from


def _train_and_record(
    config: GroupConfig,
    queue: Any,
    rank: int,
    engine: Any,
    snapshot: Snapshot,
    task: TrialTask,
    previous_end: float | None,
    storage: Storage,
) -> tuple[TrialRecord, float]:
    """Train and, on rank 0, publish the record; the record and when the export was done. All ranks raise alike.

    Rank 0 holds the trial's lease meanwhile. Raises TrialElsewhere where somebody else does, or has taken it over.
    """
    from rayfit.train.loop import train_trial
    from rayfit.train.room import with_room
    from rayfit.train.together import from_all, from_rank_0

    times = Times(now(), previous_end)
    held: list[Holding] = []

    def tell(trouble: str) -> None:
        queue.kept.remote(config.group_id, task.id, 0, trouble)

    def begin() -> tuple[str, str]:
        """Why the trial is not to be trained here, or the folder for this try."""
        holding = (
            held[0] if held else take(storage, trial_lease(task.id), config.launch, from_same_launch=True)
        )
        if isinstance(holding, Lease):
            return f"it is trained by {holding.holder}", ""
        held[:] = [holding]
        elsewhere = _trained_elsewhere(storage, task)
        return elsewhere, "" if elsewhere else str(new_attempt(storage, task.id, config.launch))

    try:
        elsewhere, folder = with_room(begin, tell)
        if elsewhere:
            raise TrialElsewhere(elsewhere)
        attempt = Path(folder)
        # A curve that is made again has the points of all weights that are kept, also of those that are not made again.
        kept_before = from_rank_0(lambda: _kept_before(storage, task))
        facts = engine_facts(engine, config.adapter)
        kept = keeping(config, task, facts, attempt, _edition(storage, task))
        try:
            result = train_trial(
                engine,
                snapshot,
                _train_task(task, attempt, kept_before),
                lambda point: queue.point.remote(task.id, point),
                _keeper(config, queue, held, task, kept),
            )
        except TrialError:
            if rank == 0 and held[0].is_held:  # it would go wrong again from there
                shutil.rmtree(attempt, ignore_errors=True)
                remove_states(storage, task.id)
            raise
        from_all(None)  # nobody writes a part of a state any more

        def publish() -> TrialRecord | str | None:
            if not held[0].is_held:
                return None
            record = trial_record(config.group_id, facts, task, result, attempt.name, times)
            on_cpu = not config.use_gpu
            return _published(storage, record, result, attempt, fresh=task.fresh, same_bits=on_cpu)

        record = with_room(publish, tell)
    finally:
        for holding in held:
            holding.release()
    if record is None:
        raise TrialElsewhere("another launch has taken it over")
    if isinstance(record, str):
        raise TrialError(record)
    return record, result.exported_at


def _published(
    storage: Storage, record: TrialRecord, result: TrainResult, attempt: Path, *, fresh: bool, same_bits: bool
) -> TrialRecord | str:
    """The record as published, with its curve; or why it cannot be."""
    import polars as pl

    curve = [msgspec.structs.asdict(point) for point in result.points]
    write_parquet(attempt / "curve.parquet", pl.DataFrame(curve, infer_schema_length=None))
    try:
        return publish_trial(storage, record, attempt=attempt, fresh=fresh, same_bits=same_bits)
    except TrialError as error:
        return str(error)


def _keeper(
    config: GroupConfig, queue: Any, held: list[Holding], task: TrialTask, keeping: Keeping
) -> StateKeeper:
    """What keeps the trial's states while it is trained; rank 0's, which holds the lease, asks the queue and tells it."""
    from rayfit.train.keeping import StateKeeper

    if not held:
        return StateKeeper(keeping)
    notice = _Notice(queue, config.group_id)
    return StateKeeper(
        keeping,
        is_noticed=lambda: notice.is_there,
        tell=lambda update, trouble: queue.kept.remote(config.group_id, task.id, update, trouble),
        may_write=lambda: held[0].is_held,
    )


class _Notice:
    """Whether a group's training is to be interrupted: asked of the queue, whose answers are never waited for."""

    def __init__(self, queue: Any, group_id: str) -> None:
        self._queue, self._group_id = queue, group_id
        self._asked: Any = None

    @property
    def is_there(self) -> bool:
        """What the queue said to the last question, if it has answered by now; the next is asked."""
        import ray

        if self._asked is None:
            self._asked = self._queue.is_noticed.remote(self._group_id)
        if not ray.wait([self._asked], timeout=0)[0]:
            return False
        answer = bool(ray.get(self._asked))
        self._asked = self._queue.is_noticed.remote(self._group_id)
        return answer


def _trained_elsewhere(storage: Storage, task: TrialTask) -> str:
    """Why the trial, whose lease is held now, is not to be trained: its record came meanwhile. Empty where it is."""
    record = storage.trial(task.id)
    if record is None or not all(record.product(name) for name in task.wanted):
        return ""
    is_new = record.finished_at != task.finished_before
    return "another launch has trained it meanwhile" if is_new or not task.fresh else ""


def _edition(storage: Storage, task: TrialTask) -> int:
    """The edition that the trial's record will have."""
    old = storage.trial(task.id)
    return 1 if old is None else old.edition + task.fresh


def _kept_before(storage: Storage, task: TrialTask) -> list[int]:
    """The updates whose weights an earlier training of the trial has kept."""
    record = None if task.fresh else storage.trial(task.id)
    return [] if record is None else record.kept_updates


def _train_task(task: TrialTask, attempt: Path, kept_before: list[int]) -> Any:
    """The task as the training loop takes it, its rows read."""
    import polars as pl

    from rayfit.data.rows import token_matrix
    from rayfit.train.loop import TrainTask

    schedule = task.schedule
    regular = curve_updates(schedule.num_updates, schedule.batch_size, task.eval_every)
    measured = {*regular, *schedule.keep, *kept_before}
    return TrainTask(
        schedule=schedule,
        train_ids=token_matrix(pl.read_parquet(task.rows_path)),
        validation_ids=token_matrix(pl.read_parquet(task.validation_path).head(task.num_validation)),
        measured_updates=tuple(sorted(measured)),
        checkpoint_path=attempt / "checkpoint",
    )


@contextmanager
def _logging_to(file: Path) -> Iterator[None]:
    """Send this process's log, tracebacks with it, to a file as well while the block runs."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(file, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    logging.getLogger("rayfit").setLevel(logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()
