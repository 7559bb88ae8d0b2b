"""Measuring on a card: texts and predictions in fp32 as on a CPU, alone and in a batch; its draws; in bf16 no ties."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from rayfit.decoding import Decoding
from rayfit.devices import device_name
from rayfit.plan.cards import Card
from tests.tiny import random_rows, save_tiny_llama

for each in ("numba", "polars"):  # a machine that only trains has neither
    pytest.importorskip(each)

from rayfit.generate.device_sampling import draw_on_device
from rayfit.generate.generator import generate
from rayfit.generate.loading import load_model
from rayfit.generate.sampling import draw
from rayfit.measure.predictions import row_means

pytestmark = pytest.mark.gpu

ROWS = random_rows(12, 24)


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize("batch_size", [1, 5, 12])
def test_greedy_texts_in_fp32_are_those_of_a_cpu(model_path: Path, batch_size: int) -> None:
    decoding = Decoding.parse("greedy:num_new_tokens=40")
    contexts = [row[:length].tolist() for row, length in zip(ROWS, range(3, 15), strict=True)]
    texts = [
        generate(
            load_model(model_path, precision="fp32", device=device),
            contexts,
            decoding,
            suppress_ids=(0, 1),
            batch_size=size,
        ).tokens
        for device, size in (("cpu", 12), ("cuda", batch_size))
    ]
    assert np.array_equal(*texts)


@pytest.mark.parametrize(
    "text", ["nucleus", "nucleus:top_k=7,top_p=1.0", "nucleus:top_k=0", "temperature", "min_p"]
)
@pytest.mark.parametrize("rows", [1, 150])
def test_draws_from_the_same_logits_are_those_of_a_cpu(text: str, rows: int) -> None:
    decoding, generator = Decoding.parse(text), torch.Generator().manual_seed(rows)
    scores = torch.randn(rows, 128_256, generator=generator) * 3
    numbers = torch.rand(rows, dtype=torch.float64, generator=generator)
    for logits in (scores, scores.bfloat16().float()):  # many of the latter are equal
        found = draw_on_device(logits.cuda(), numbers.cuda(), decoding)
        assert found.tolist() == draw(logits.numpy(), numbers.numpy(), decoding).tolist()


def test_losses_in_fp32_are_those_of_a_cpu(model_path: Path) -> None:
    found = [
        row_means(load_model(model_path, precision="fp32", device=device), ROWS, device)
        for device in ("cpu", "cuda")
    ]
    for name in ("nll_nats", "entropy_nats"):
        np.testing.assert_allclose(found[1][name], found[0][name], rtol=1e-4)


def test_a_model_in_bf16_gives_fp32_logits(model_path: Path) -> None:
    model = load_model(model_path, precision="bf16", device="cuda")
    with torch.inference_mode():
        logits = model(input_ids=torch.from_numpy(ROWS).cuda(), use_cache=False).logits
    assert logits.dtype == torch.float32 and bool(logits.isfinite().all())


def test_the_card_is_named(cards: tuple[Card, ...]) -> None:
    name = device_name("cuda:0")
    assert name.startswith(cards[0].name) and "driver for CUDA" in name
