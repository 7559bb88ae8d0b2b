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
        best, best_id = np.float32(-np.inf), score.size
        while end < rows.size and rows[end] == row:
            token = ids[end]
            saved[end] = score[token]
            if saved[end] > best or (saved[end] == best and token < best_id):
                best, best_id = saved[end], token
            score[token] = -np.inf
            end += 1
        steps_banned[row, step] = True
        left = _is_left(score, best, best_id)
        if left == 0:
            # Backwards, so that a pair that stands there twice gets its first value back.
            for at in range(end - 1, begin - 1, -1):
                score[ids[at]] = saved[at]
            lost[num_lost] = row
            num_lost += 1
        elif left == 1:
            steps_changed[row, step] = True
        begin = end
    return lost[:num_lost]


# No NaN comes here, which lets the search for the maximum run on whole vectors.
@njit(cache=True, nogil=True, fastmath={"nnan", "nsz", "reassoc"})
def _is_left(score: np.ndarray, best: float, best_id: int) -> int:
    """Tell what is left of a row without its banned tokens, the highest of which was `best` at `best_id`.

    2: the choice, for it was never banned. 1: lower scores only, so the choice changes. 0: nothing.
    """
    something = False
    for begin in range(0, score.size, 256):
        part = score[begin : begin + 256]
        highest = part[0]
        for value in part:
            highest = max(highest, value)
        if highest > best:
            return 2
        if highest == best and best > -np.inf:
            for at in range(part.size):
                if part[at] == best:
                    if begin + at < best_id:
                        return 2
                    break
        something = something or highest > -np.inf
    return 1 if something else 0
