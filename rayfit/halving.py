"""Work on a GPU in batches, and in smaller ones where its memory is not enough for those."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

_Done = TypeVar("_Done")


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
