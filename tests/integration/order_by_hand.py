"""The order of training rows as its definition says it, without the code that is tested."""

from __future__ import annotations

import numpy as np


def order_by_hand(order_seed: int, num_rows: int, num_epochs: int) -> np.ndarray:
    """Row numbers, int64 [num_epochs * num_rows]: each epoch's rows sorted by their Philox words, epochs joined."""
    epochs = []
    for epoch in range(num_epochs):
        words = np.random.Philox(key=np.array([order_seed, epoch], dtype=np.uint64)).random_raw(num_rows)
        epochs.append(np.argsort(words, kind="stable"))
    return np.concatenate(epochs)
