"""The rows of an update dealt to workers, whatever their numbers, so that the gradient is that of the whole batch."""

from __future__ import annotations

from dataclasses import dataclass

from rayfit.errors import RayfitError


@dataclass(frozen=True)
class Piece:
    """What a worker computes in one pass: places `begin` to `end` in the batch, and the weight of their mean loss.

    The gradients of all workers' weighted losses, summed over a worker's pieces and averaged over workers, are that of
    the batch's mean loss. A piece of weight 0 is computed because the others compute one.
    """

    begin: int
    end: int
    weight: float


def check_batch(batch_size: int, num_workers: int) -> None:
    """Raises RayfitError, with the nearest number that works, for more workers than rows that are no multiple of them."""
    if num_workers <= batch_size or num_workers % batch_size == 0:
        return
    below = num_workers - num_workers % batch_size
    best = min((below, below + batch_size), key=lambda count: (abs(count - num_workers), count))
    raise RayfitError(
        f"--num-workers: more than the batch of {batch_size} sequences must be a multiple of it; got {num_workers}; "
        f"the nearest that works is {best}"
    )


def most_rows(batch_size: int, num_workers: int) -> int:
    """Rows of an update that the busiest worker computes."""
    return -(-batch_size // num_workers)


def num_passes(batch_size: int, num_workers: int, micro_batch: int | None) -> int:
    """Forward and backward passes of every worker in an update; `micro_batch`: rows of one at most, None for all."""
    most = most_rows(batch_size, num_workers)
    return -(-most // min(micro_batch or most, most))


def deal(batch_size: int, num_workers: int, rank: int, micro_batch: int | None = None) -> tuple[Piece, ...]:
    """The pieces of one worker, as many for each of them.

    Workers get shares that differ by a row at most. Where there are more workers than rows, as many compute each row.
    """
    check_batch(batch_size, num_workers)
    if num_workers > batch_size:
        place = rank * batch_size // num_workers
        return (Piece(place, place + 1, 1.0),)
    begin, end = (number * batch_size // num_workers for number in (rank, rank + 1))
    size = min(micro_batch or batch_size, most_rows(batch_size, num_workers))
    pieces = []
    for number in range(num_passes(batch_size, num_workers, micro_batch)):
        first = begin + number * size
        last = min(first + size, end)
        if first < last:
            pieces.append(Piece(first, last, (last - first) * num_workers / batch_size))
        else:
            pieces.append(Piece(begin, begin + 1, 0.0))
    return tuple(pieces)
