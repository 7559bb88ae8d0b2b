"""Top-1 agreement of many checkpoints from their stored first choices, without a model in memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rayfit.errors import RayfitError


def agreement_matrix(choices: Sequence[np.ndarray]) -> tuple[np.ndarray, int]:
    """(share of positions at which two checkpoints have the same first choice, number of positions).

    `choices`: for each of M checkpoints the ids of its most probable tokens, integers (num_texts, num_positions),
    teacher-forced over the same texts (`TokenStatistics.top_1`). The matrix is float64 (M, M), symmetric, in [0, 1]
    with a diagonal of 1; positions of all texts are pooled. Source: the paper's section 6.1, Figure 5.

    >>> agreement_matrix([np.array([[1, 2, 3, 4]]), np.array([[1, 2, 3, 5]])])[0].tolist()
    [[1.0, 0.75], [0.75, 1.0]]

    Raises RayfitError without checkpoints, for shapes that differ (other texts or another tokenizer), and where
    there is no position.
    """
    _check(choices)
    matrix = np.eye(len(choices))
    for i, left in enumerate(choices):
        for j, right in enumerate(choices[:i]):
            matrix[i, j] = matrix[j, i] = np.mean(left == right)
    return matrix, int(choices[0].size)


def _check(choices: Sequence[np.ndarray]) -> None:
    if not len(choices):
        raise RayfitError("agreement: there are no checkpoints to compare")
    shapes = sorted({array.shape for array in choices})
    if len(shapes) > 1:
        raise RayfitError(
            f"agreement: the choices have shapes {' and '.join(map(str, shapes))}; all checkpoints must have seen "
            "the same texts under the same tokenizer"
        )
    if choices[0].ndim != 2 or not choices[0].size:
        raise RayfitError(
            f"agreement: the choices have shape {shapes[0]}; expected (texts, positions), one or more of each"
        )
    for array in choices:
        if not np.issubdtype(array.dtype, np.integer):
            raise RayfitError(f"agreement: choices must be token ids (integers), got {array.dtype}")
