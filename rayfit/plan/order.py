"""The rows that each update trains on: a pure function of (number of rows, batch, seed), whatever the workers."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from rayfit.errors import RayfitError


@lru_cache(maxsize=4)
def epoch_order(num_rows: int, order_seed: int, epoch: int) -> np.ndarray:
    """The permutation of rows of one epoch, int64 of shape (num_rows,).

    Rows are sorted by the raw 64-bit words of a Philox counter keyed by (seed, epoch); NumPy promises these words
    for ever, which it does not promise for `permutation`. Equal words, if ever, keep their order.
    """
    words = np.random.Philox(key=np.array([order_seed, epoch], dtype=np.uint64)).random_raw(num_rows)
    order = np.argsort(words, kind="stable")
    order.setflags(write=False)
    return order


def update_rows(
    num_rows: int,
    batch_size: int,
    order_seed: int,
    update: int,
    exchange: tuple[int, int] | None = None,
) -> np.ndarray:
    """The rows of update number `update` (0-based), int64 of shape (batch_size,).

    The epochs' permutations stand one after another and are cut into batches, across the borders of epochs, so any
    number of updates is exact for any number of rows; with fewer rows than the batch, rows repeat within it. Two rows
    given as `exchange` stand in each other's place in every epoch.
    """
    positions = np.arange(update * batch_size, (update + 1) * batch_size)
    epochs, offsets = np.divmod(positions, num_rows)
    rows = np.empty(batch_size, dtype=np.int64)
    for epoch in np.unique(epochs):
        inside = epochs == epoch
        rows[inside] = epoch_order(num_rows, order_seed, int(epoch))[offsets[inside]]
    if exchange is not None:
        first, second = rows == exchange[0], rows == exchange[1]
        rows[first], rows[second] = exchange[1], exchange[0]
    return rows


def check_exchange(exchange: tuple[int, int], num_rows: int) -> None:
    """Raises RayfitError unless `exchange` names two different rows."""
    if exchange[0] == exchange[1] or not all(0 <= row < num_rows for row in exchange):
        raise RayfitError(
            f"exchange: an arm must name two different samples from 0 to {num_rows - 1}; got "
            f"{exchange[0]},{exchange[1]}"
        )


class ExchangedEpochs(NamedTuple):
    """The epochs of a training (the last may be begun only) by what an exchange of two rows does to their batches.

    `in_one_batch`: both rows fall into one batch, whose content stays the same; `changed`: they fall into two;
    `unseen`: training ends before either. The three add up to `epochs`.
    """

    epochs: int
    in_one_batch: int
    changed: int
    unseen: int


def exchanged_epochs(
    num_rows: int, batch_size: int, order_seed: int, num_updates: int, exchange: tuple[int, int]
) -> ExchangedEpochs:
    """Count the epochs of `num_updates` updates by what the exchange does to their batches."""
    epochs = -(-num_updates * batch_size // num_rows)
    in_one_batch = changed = unseen = 0
    for epoch in range(epochs):
        places = np.argsort(epoch_order(num_rows, order_seed, epoch), kind="stable")
        first, second = sorted((epoch * num_rows + int(places[row])) // batch_size for row in exchange)
        if first >= num_updates:
            unseen += 1
        elif first == second:
            in_one_batch += 1
        else:
            changed += 1
    return ExchangedEpochs(epochs, in_one_batch, changed, unseen)


def epoch_ends(num_rows: int, batch_size: int, num_updates: int) -> range:
    """The updates (1-based) at which an epoch is over for a training that may stop there: every ceil(rows / batch)."""
    every = -(-num_rows // batch_size)
    return range(every, num_updates + 1, every)


def epochs_of(num_updates: int, batch_size: int, num_rows: int) -> float:
    """Return how often each row was seen on average: updates x batch / rows (a fraction when not whole)."""
    return num_updates * batch_size / num_rows
