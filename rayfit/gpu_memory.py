"""A GPU whose memory is not enough: smaller batches, and then the words for whoever can do something about it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

_Done = TypeVar("_Done")

_FACTS = re.compile(
    r"Tried to allocate (\S+ \w+)\..*total capacity of (\S+ \w+) of which (\S+ \w+) is free", re.DOTALL
)


def in_halves(run: Callable[[int, int], _Done], begin: int, end: int) -> Iterator[_Done]:
    """`run(begin, end)`, or, where that runs out of a GPU's memory, the same of each half, one after another.

    Raises torch.OutOfMemoryError where one item alone does not fit.
    """
    done = None
    try:
        done = run(begin, end)
    except torch.OutOfMemoryError:
        if end - begin == 1:
            raise
    if done is not None:
        yield done
        return
    # Only here, where the error no longer holds what the failed try had computed.
    torch.cuda.empty_cache()
    middle = (begin + end) // 2
    yield from in_halves(run, begin, middle)
    yield from in_halves(run, middle, end)


def out_of_memory(error: torch.OutOfMemoryError, doing: str) -> str:
    """One line: what was done, what was asked for and what was there, as torch tells it, and the options that need less."""
    found = _FACTS.search(str(error))
    facts = "" if found is None else f": {found[1]} more asked for, {found[3]} of {found[2]} free"
    return (
        f"out of GPU memory {doing}{facts}; --zero-stage 3, more --num-workers, a smaller --batch-size or "
        "--sequence-length, or --adapter need less"
    )
