"""A function in a process of its own, whose memory and threads are given back at its end."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rayfit.errors import RayfitError

Tell = Callable[[Any], None]


def run_apart(function: Callable[..., Any], *arguments: Any, what: str, told: Tell | None = None) -> Any:
    """`function(*arguments, tell)` in a fresh process; its result, or the RayfitError that it raised.

    What the function gives to `tell` is given to `told` here. `what` names the work in the error that is raised when
    the process ends before it is done.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(function, arguments, theirs))
    with _patient_threads():
        process.start()
    theirs.close()
    try:
        while True:
            kind, value = ours.recv()
            if kind == "done":
                return value
            if kind == "refused":
                raise RayfitError(value)
            if told is not None:
                told(value)
    except EOFError:
        process.join()
        raise RayfitError(f"{what} ended with exit status {process.exitcode} before it was done") from None
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


def _run(function: Callable[..., Any], arguments: tuple[Any, ...], pipe: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    # transformers looks DeepSpeed up, which would tell that it found no GPU
    os.environ["DS_ACCELERATOR"] = "cpu"
    try:
        result = function(*arguments, lambda value: pipe.send(("told", value)))
    except RayfitError as error:
        pipe.send(("refused", str(error)))
    else:
        pipe.send(("done", result))
