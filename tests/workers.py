"""Run a function in N real processes that form one gloo group, as Ray Train would start them."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import socket
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.patience import cpu_seconds, wait_for


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _work(
    rank: int,
    world: int,
    port: int,
    folder: str,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    use_gpu: bool,
) -> None:
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(world),
        LOCAL_WORLD_SIZE=str(world),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        DS_ACCELERATOR="cuda" if use_gpu else "cpu",
    )
    if use_gpu:
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    try:
        import torch

        torch.set_num_threads(1)
        from rayfit.train.engine import start_process_group

        if use_gpu:
            from rayfit.devices import make_deterministic

            make_deterministic()
        start_process_group(use_gpu=use_gpu)
        result: tuple[str, Any] = ("ok", function(*args))
    except BaseException:  # noqa: BLE001 - a process boundary
        result = ("error", traceback.format_exc())
    Path(folder, str(rank)).write_bytes(pickle.dumps(result))


def on_gpus() -> bool:
    """In a worker: whether it is one on GPUs."""
    return os.environ["DS_ACCELERATOR"] == "cuda"


def run_workers(function: Callable[..., Any], world: int, *args: Any, use_gpu: bool = False) -> list[Any]:
    """`function(*args)` on every rank of a fresh group; the results by rank. An error on any rank is raised here.

    Over gloo, or with a GPU for each over nccl.
    """
    context = multiprocessing.get_context("spawn")
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        processes = [
            context.Process(target=_work, args=(rank, world, port, folder, function, args, use_gpu))
            for rank in range(world)
        ]
        for process in processes:
            process.start()
        try:
            wait_for(
                lambda: not any(process.is_alive() for process in processes),
                f"the end of {function.__name__}",
                lambda: cpu_seconds(process.pid for process in processes if process.pid),
                every=0.05,
            )
        finally:
            for process in processes:
                process.kill()
                process.join()
        results = []
        for rank in range(world):
            file = Path(folder, str(rank))
            assert file.exists(), f"rank {rank} ended without a result (exit {processes[rank].exitcode})"
            kind, value = pickle.loads(file.read_bytes())
            assert kind == "ok", value
            results.append(value)
    return results
