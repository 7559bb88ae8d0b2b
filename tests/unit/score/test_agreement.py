"""Agreement of stored choices against brute force, and with what two models' logits say."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
import torch

from rayfit.errors import RayfitError
from rayfit.score import agreement as module
from rayfit.score.agreement import agreement_matrix
from rayfit.score.logits import token_statistics
from rayfit.score.pairs import choice_statistics, pair_scores
from tests.unit.fresh import heavy_modules_after


def test_the_example_in_the_docstring():
    result = doctest.testmod(module, extraglobs={"np": np})
    assert result.attempted == 1 and result.failed == 0


@pytest.mark.parametrize("num_models", [1, 2, 5])
def test_the_matrix_is_the_brute_force_s(num_models):
    generator = np.random.default_rng(num_models)
    choices = [generator.integers(0, 3, (4, 11)).astype(np.int32) for _ in range(num_models)]
    matrix, num_positions = agreement_matrix(choices)
    assert num_positions == 44 and matrix.shape == (num_models, num_models)
    for i, left in enumerate(choices):
        for j, right in enumerate(choices):
            same = sum(a == b for a, b in zip(left.ravel().tolist(), right.ravel().tolist(), strict=True))
            assert matrix[i, j] == same / 44


def test_stored_choices_agree_as_the_logits_do():
    generator = torch.Generator().manual_seed(0)
    # Few distinct values, so that many positions are ties.
    logits = [torch.randint(0, 4, (3, 8, 9), generator=generator).float() for _ in range(2)]
    targets = torch.zeros(3, 8, dtype=torch.int64)
    left, right = (token_statistics(each, targets).top_1.numpy() for each in logits)
    expected = pair_scores([choice_statistics(logits[0], torch.from_numpy(right))])["top_1_agreement"]
    assert agreement_matrix([left, right])[0][0, 1] == pytest.approx(expected.value)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ([], "no checkpoints to compare"),
        ([np.zeros((2, 3), int), np.zeros((2, 4), int)], r"shapes \(2, 3\) and \(2, 4\).*same tokenizer"),
        ([np.zeros(3, int)], r"shape \(3,\); expected \(texts, positions\)"),
        ([np.zeros((2, 0), int)], "one or more of each"),
        ([np.zeros((2, 3))], "must be token ids .integers., got float64"),
    ],
)
def test_what_cannot_be_compared_is_refused(choices, message):
    with pytest.raises(RayfitError, match=message):
        agreement_matrix(choices)


def test_neither_agreement_nor_predictions_need_torch():
    modules = ("agreement", "predictions", "calibration", "series", "arm", "mauve")
    assert heavy_modules_after(f"import {', '.join(f'rayfit.score.{name}' for name in modules)}") == []
