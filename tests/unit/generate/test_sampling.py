"""Draws against a plain float64 implementation and transformers' own filters; their random numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from rayfit.decoding import Decoding
from rayfit.generate.sampling import draw, uniforms
from tests.unit.generate.oracles import brute_draw

DECODINGS = [
    "nucleus",
    "nucleus:temperature=1.3,top_k=5,top_p=0.6",
    "nucleus:top_k=0,top_p=0.8",
    "nucleus:top_k=3,top_p=1.0",
    "nucleus:top_k=1",
    "temperature:temperature=0.9",
    "temperature:temperature=0.01",
    "min_p",
    "min_p:min_p=0.4,temperature=2",
]


@pytest.mark.parametrize("text", DECODINGS)
def test_draws_equal_a_plain_float64_implementation(text: str) -> None:
    decoding = Decoding.parse(text)
    generator = np.random.default_rng(1)
    for case in range(250):
        scores = generator.normal(0, 2, (4, int(generator.integers(2, 90)))).astype(np.float32)
        if case % 3 == 0:
            scores = np.round(scores)  # equal logits
        if case % 4 == 0:
            scores[:, : scores.shape[1] // 2] = -np.inf
        numbers = generator.random(4)
        wanted = [
            brute_draw(
                row.tolist(),
                number,
                decoding.temperature or 1.0,
                decoding.top_k or 0,
                decoding.top_p if decoding.top_p is not None else 1.0,
                decoding.min_p or 0.0,
            )
            for row, number in zip(scores, numbers, strict=True)
        ]
        assert draw(scores, numbers, decoding).tolist() == wanted, case


@pytest.mark.parametrize(
    "text", ["nucleus", "temperature:temperature=0.8", "min_p", "nucleus:top_k=20,top_p=0.5"]
)
def test_shares_are_those_of_transformers_filters(text: str) -> None:
    decoding = Decoding.parse(text)
    filters = LogitsProcessorList([TemperatureLogitsWarper(decoding.temperature)])
    if decoding.top_k:
        filters.append(TopKLogitsWarper(decoding.top_k))
    if decoding.top_p:
        filters.append(TopPLogitsWarper(decoding.top_p))
    if decoding.min_p:
        filters.append(MinPLogitsWarper(decoding.min_p))
    scores = torch.randn(3, 200, generator=torch.Generator().manual_seed(0)) * 2
    shares = torch.softmax(
        filters(torch.zeros(3, 1, dtype=torch.long), scores.clone()).double(), dim=1
    ).numpy()
    grid = (np.arange(4000) + 0.5) / 4000
    for row in range(3):
        drawn = draw(np.repeat(scores[row : row + 1].numpy(), grid.size, axis=0), grid, decoding)
        found = np.bincount(drawn, minlength=200) / grid.size
        assert np.abs(found - shares[row]).max() < 1e-3
        assert set(drawn) <= set(np.flatnonzero(shares[row]))


def test_a_draw_does_not_depend_on_its_batch() -> None:
    generator = np.random.default_rng(2)
    scores, numbers = generator.normal(size=(32, 64)).astype(np.float32), generator.random(32)
    for text in DECODINGS:
        decoding = Decoding.parse(text)
        together = draw(scores, numbers, decoding)
        alone = [int(draw(scores[row : row + 1], numbers[row : row + 1], decoding)[0]) for row in range(32)]
        assert together.tolist() == alone


def test_random_numbers_belong_to_seed_and_context() -> None:
    numbers = uniforms(0, "a", 1000)
    assert numbers.dtype == np.float64
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert abs(numbers.mean() - 0.5) < 0.04
    np.testing.assert_array_equal(uniforms(0, "a", 96), numbers[:96])
    assert not np.isin(uniforms(1, "a", 100), numbers).any()
    assert not np.isin(uniforms(0, "b", 100), numbers).any()
    # fixed for good: a change would change every sampled text
    assert numbers[:3].tolist() == [0.45625602946030985, 0.5300434969914326, 0.6247393645477117]
