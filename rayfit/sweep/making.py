"""Making an embedded model in a process of its own, so that its memory and threads are given back."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from rayfit.errors import RayfitError
from rayfit.plan.precision import cpu_precision
from rayfit.presets import MADE_MODELS
from rayfit.train.steps import MakingStep


def make_in_process(
    name: str,
    material: list[Any],
    base: Path | None,
    target: Path,
    report: Callable[[MakingStep], None],
) -> dict[str, Any]:
    """Train the preset `name` into the folder `target`; returns the facts of `make_model` or `instruct_model`.

    `material` is texts, or pairs of instruction and answer where the preset has a base, which lies in `base`.
    Raises RayfitError when the process ends before it is done.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    num_threads = len(os.sched_getaffinity(0))
    precision = cpu_precision().name
    process = context.Process(
        target=_make, args=(name, material, base, target, theirs, num_threads, precision)
    )
    with _patient_threads():
        process.start()
    theirs.close()
    try:
        while True:
            kind, value = ours.recv()
            if kind == "done":
                return dict(value)
            report(value)
    except EOFError:
        process.join()
        raise RayfitError(
            f"making {name} ended with exit status {process.exitcode} before it was done"
        ) from None
    finally:
        process.terminate()
        process.join()


@contextmanager
def _patient_threads() -> Iterator[None]:
    """Processes started within the block have OpenMP threads that sleep soon when they wait for each other.

    By default they spin, which on cores that something else uses too makes training ten times slower.
    """
    before = os.environ.get("GOMP_SPINCOUNT")
    os.environ["GOMP_SPINCOUNT"] = before or "1000"
    try:
        yield
    finally:
        if before is None:
            del os.environ["GOMP_SPINCOUNT"]


def _make(
    name: str,
    material: list[Any],
    base: Path | None,
    target: Path,
    pipe: Any,
    num_threads: int,
    precision: str,
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    os.environ["DS_ACCELERATOR"] = (
        "cpu"  # transformers looks DeepSpeed up, which would tell that it found no GPU
    )
    from transformers.utils import logging

    from rayfit.train.instruct import instruct_model
    from rayfit.train.make import make_model

    logging.disable_progress_bar()

    def report(step: MakingStep) -> None:
        pipe.send(("at", step))

    preset = MADE_MODELS[name]
    make = (
        partial(make_model, preset, material)
        if base is None
        else partial(instruct_model, preset, material, base)
    )
    facts = make(target, report=report, num_threads=num_threads, precision=precision)
    pipe.send(("done", facts))
