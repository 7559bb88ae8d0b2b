"""Bans on greedy logits against plain Python."""

from __future__ import annotations

import numpy as np
import pytest

from rayfit.generate.banning import ban_greedily


@pytest.mark.parametrize("seed", range(40))
def test_bans_equal_brute_force(seed: int) -> None:
    generator = np.random.default_rng(seed)
    num_rows, vocabulary = int(generator.integers(1, 6)), int(generator.integers(1, 12))
    # Few values, so that many tie; some ids were suppressed before.
    scores = generator.integers(0, 4, (num_rows, vocabulary)).astype(np.float32)
    scores[generator.random(scores.shape) < 0.3] = -np.inf
    scores[:, int(generator.integers(vocabulary))] = 1
    pairs = sorted(
        (int(generator.integers(num_rows)), int(generator.integers(vocabulary)))
        for _ in range(int(generator.integers(0, 25)))
    )
    expected = [row.tolist() for row in scores]
    banned, changed, lost = [False] * num_rows, [False] * num_rows, []
    for row in sorted({row for row, _ in pairs}):
        ids = {token for of, token in pairs if of == row}
        left = [-np.inf if token in ids else score for token, score in enumerate(expected[row])]
        banned[row] = True
        if max(left) == -np.inf:
            lost.append(row)
        else:
            changed[row] = left.index(max(left)) != expected[row].index(max(expected[row]))
            expected[row] = left
    marks = np.zeros((2, num_rows, 3), dtype=np.bool_)
    rows, ids = np.array(pairs, dtype=np.int64).reshape(-1, 2).T.copy()
    found = ban_greedily(scores, rows, ids, 1, marks[0], marks[1])
    assert found.tolist() == lost
    assert scores.tolist() == expected
    assert marks[0, :, 1].tolist() == banned and marks[1, :, 1].tolist() == changed
    assert not marks[:, :, [0, 2]].any()
