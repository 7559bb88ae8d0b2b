"""A worker group's workers: each serves the queue until nothing is left, training trial after trial."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rayfit.allocator import keep_freed_memory
from rayfit.devices import make_deterministic
from rayfit.errors import TrialElsewhere, TrialError, TrialInterrupted, WeightsError, first_line
from rayfit.records.storage import TRIALS, Storage
from rayfit.records.trials import LOGS
from rayfit.sweep.nodes import dead_nodes
from rayfit.sweep.training import TrialTraining
from rayfit.sweep.trial import GroupConfig, TrialTask

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

    group_id = config.group_id
    with _logging_to(Storage(config.storage).folder(TRIALS, task.id) / LOGS / f"rank{rank}.log"):
        try:
            log.info("trial %s in group %s, rank %d, process %d", task.id, group_id, rank, os.getpid())
            notice = _Notice(queue, group_id)
            training = TrialTraining(config, task, queue, is_noticed=lambda: notice.is_there)
            record, idle_from = training.run(engine, snapshot, previous_end)
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
