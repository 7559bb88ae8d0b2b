"""Which rows each update trains on: a pure function of (number of rows, batch, seed), whatever the workers."""

from __future__ import annotations

from functools import lru_cache

import numpy as np


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


def update_rows(num_rows: int, batch_size: int, order_seed: int, update: int) -> np.ndarray:
    """The rows of update number `update` (0-based), int64 of shape (batch_size,).

    The epochs' permutations stand one after another and are cut into batches, across the borders of epochs, so any
    number of updates is exact for any number of rows; with fewer rows than the batch, rows repeat within it.
    """
    positions = np.arange(update * batch_size, (update + 1) * batch_size)
    epochs, offsets = np.divmod(positions, num_rows)
    rows = np.empty(batch_size, dtype=np.int64)
    for epoch in np.unique(epochs):
        inside = epochs == epoch
        rows[inside] = epoch_order(num_rows, order_seed, int(epoch))[offsets[inside]]
    return rows


def epochs_of(num_updates: int, batch_size: int, num_rows: int) -> float:
    """How often each row was seen on average: updates x batch / rows (a fraction when not whole)."""
    return num_updates * batch_size / num_rows
