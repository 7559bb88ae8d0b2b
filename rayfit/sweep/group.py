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
from rayfit.errors import TrialError, WeightsError, first_line
from rayfit.plan.trials import curve_updates
from rayfit.records.provenance import now
from rayfit.records.storage import Storage, write_parquet
from rayfit.records.trial import Point, TrialRecord
from rayfit.records.trials import LOGS, new_attempt, publish_trial
from rayfit.sweep.trial import GroupConfig, Times, TrialTask, engine_facts, trial_record

if TYPE_CHECKING:
    from rayfit.train.reset import Snapshot

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

    torch.set_num_threads(config.num_threads)
    if config.use_gpu:
        make_deterministic()
    else:
        keep_freed_memory()
    start_process_group(use_gpu=config.use_gpu)

    def agree(method: str, *arguments: Any) -> Any:
        """Rank 0 asks the queue; every rank gets its answer."""
        box = [ray.get(getattr(queue, method).remote(config.group_id, *arguments)) if rank == 0 else None]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    if not agree("hello"):
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
    """Train and, on rank 0, publish the record; the record and when the export was done. All ranks raise alike."""
    import polars as pl
    import torch.distributed as dist

    from rayfit.train.loop import train_trial

    def from_rank_0(make: Callable[[], Any]) -> Any:
        box = [make() if rank == 0 else None]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    started, begin = now(), time.time()
    group_id = config.group_id
    launch = group_id.split("-")[1]
    attempt = Path(from_rank_0(lambda: str(new_attempt(storage, task.id, launch))))
    # A curve that is made again has the points of all weights that are kept, also of those that are not made again.
    kept_before = from_rank_0(lambda: _kept_before(storage, task))
    points: list[Point] = []

    def report(point: Point) -> None:
        points.append(point)
        queue.point.remote(task.id, point)

    try:
        result = train_trial(engine, snapshot, _train_task(task, attempt, kept_before), report)
    except TrialError:
        if rank == 0:
            shutil.rmtree(attempt, ignore_errors=True)
        raise
    times = Times(started, begin, previous_end)

    def publish() -> tuple[TrialRecord | None, str]:
        facts = engine_facts(engine, config.adapter)
        record = trial_record(group_id, facts, task, result, points, times)
        curve = [msgspec.structs.asdict(point) for point in points]
        write_parquet(attempt / "curve.parquet", pl.DataFrame(curve, infer_schema_length=None))
        on_cpu = engine.device.type == "cpu"
        try:
            return publish_trial(storage, record, attempt=attempt, fresh=task.fresh, same_bits=on_cpu), ""
        except TrialError as error:
            return None, str(error)

    record, error = from_rank_0(publish)
    if record is None:
        raise TrialError(error)
    return record, result.exported_at


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
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()
