"""Taking tokens out of greedy logits in main memory, a few rows at a time: compiled, as it happens at every step."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def ban_greedily(
    scores: np.ndarray,
    rows: np.ndarray,
    ids: np.ndarray,
    step: int,
    steps_banned: np.ndarray,
    steps_changed: np.ndarray,
) -> np.ndarray:
    """Set the pairs (row, id) of float32 `scores` [rows, vocabulary] to -inf, in place.

    rows, ids: int64 [pairs], ordered by row; a pair may stand there twice. steps_banned, steps_changed: bool
    [rows, steps], set at `step` for each row with a ban, and where another id is the highest than without it.
    Returns the rows, int64, of which nothing would be left; their scores stay as they were.
    """
    saved = np.empty(rows.size, dtype=np.float32)
    lost = np.empty(rows.size, dtype=np.int64)
    num_lost, begin = 0, 0
    while begin < rows.size:
        row, end = rows[begin], begin
        score = scores[row]
        free = _first_highest(score)
        while end < rows.size and rows[end] == row:
            saved[end] = score[ids[end]]
            score[ids[end]] = -np.inf
            end += 1
        steps_banned[row, step] = True
        if score[free] == -np.inf:
            if score[_first_highest(score)] == -np.inf:
                # Backwards, so that a pair that stands there twice gets its first value back.
                for at in range(end - 1, begin - 1, -1):
                    score[ids[at]] = saved[at]
                lost[num_lost] = row
                num_lost += 1
            else:
                steps_changed[row, step] = True
        begin = end
    return lost[:num_lost]


# No NaN comes here, which lets the search for the maximum run on whole vectors.
@njit(cache=True, nogil=True, fastmath={"nnan", "nsz", "reassoc"})
def _first_highest(score: np.ndarray) -> int:
    highest = score[0]
    for value in score:
        highest = max(highest, value)
    for at in range(score.size):
        if score[at] == highest:
            return at
    return 0
