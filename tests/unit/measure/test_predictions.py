"""A checkpoint's predictions over whole rows: the faster ways give the numbers of the plain ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from rayfit.errors import RayfitError
from rayfit.generate.loading import load_model
from rayfit.measure.checkpoint import whole_rows
from rayfit.measure.predictions import row_means, statistics_of
from tests.tiny import random_rows, save_tiny_llama

ROWS = random_rows(19, 24)


def test_means_of_rows_are_those_of_their_statistics(tmp_path: Path) -> None:
    model = load_model(save_tiny_llama(tmp_path / "model"), precision="fp32", device="cpu")
    statistics = statistics_of(model, ROWS, "cpu")
    for name, means in row_means(model, ROWS, "cpu").items():
        of_positions = np.asarray(getattr(statistics, name).double())
        assert of_positions.shape == (19, 23) and means.dtype == np.float64
        np.testing.assert_allclose(means, of_positions.mean(axis=1), rtol=1e-12)


def test_attention_is_torch_s_own_over_whole_rows_and_then_the_usual_again(tmp_path: Path) -> None:
    model = load_model(save_tiny_llama(tmp_path / "model"), precision="fp32", device="cpu")
    ids = torch.from_numpy(ROWS)
    with torch.no_grad():
        plain = model(input_ids=ids, use_cache=False).logits
        with whole_rows(model):
            assert model.config._attn_implementation == "sdpa"
            fast = model(input_ids=ids, use_cache=False).logits
        again = model(input_ids=ids, use_cache=False).logits
    assert model.config._attn_implementation == "eager"
    assert torch.equal(plain, again)
    torch.testing.assert_close(fast, plain, rtol=0, atol=1e-5)


def test_in_bf16_attention_stays(tmp_path: Path) -> None:
    model = load_model(save_tiny_llama(tmp_path / "model"), precision="bf16", device="cpu")
    with whole_rows(model):
        assert model.config._attn_implementation == "eager"


def test_logits_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    model = load_model(save_tiny_llama(tmp_path / "model"), precision="fp32", device="cpu")
    with torch.no_grad():
        model.model.norm.weight[3] = float("nan")
    with pytest.raises(RayfitError, match="not finite"):
        row_means(model, ROWS, "cpu")
