"""Work in halves where a GPU's memory is not enough for the whole, and the line that says so."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from rayfit.gpu_memory import in_halves, out_of_memory

TOLD = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.64 GiB of which 1.19 GiB is free. "
    "Including non-PyTorch memory, this process has 22.44 GiB memory in use."
)


def _fits(most: int) -> tuple[list[tuple[int, int]], Callable[[int, int], list[int]]]:
    tried: list[tuple[int, int]] = []

    def run(begin: int, end: int) -> list[int]:
        tried.append((begin, end))
        if end - begin > most:
            raise torch.OutOfMemoryError(TOLD)
        return list(range(begin, end))

    return tried, run


@pytest.mark.parametrize("most", [1, 2, 3, 5, 7])
def test_every_item_is_done_once_and_in_order(most: int) -> None:
    tried, run = _fits(most)
    done = list(in_halves(run, 3, 10))
    assert [item for part in done for item in part] == list(range(3, 10))
    assert tried[0] == (3, 10) and max(map(len, done)) <= most


def test_one_item_that_does_not_fit_is_an_error() -> None:
    _, run = _fits(0)
    with pytest.raises(torch.OutOfMemoryError):
        list(in_halves(run, 0, 4))


def test_the_line_says_what_was_asked_for_what_was_there_and_what_helps() -> None:
    line = out_of_memory(torch.OutOfMemoryError(TOLD), "while training")
    assert line.startswith(
        "out of GPU memory while training: 2.00 GiB more asked for, 1.19 GiB of 23.64 GiB free; "
    )
    assert "--zero-stage 3" in line and "\n" not in line
    assert out_of_memory(torch.OutOfMemoryError("CUDA driver error"), "x").startswith("out of GPU memory x; ")
