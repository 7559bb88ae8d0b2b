"""Two workers on two cards: as one, at every stage and with an adapter; and the end of both when one fails."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rayfit.plan.cards import Card
from tests.integration import test_adapters as adapters
from tests.integration.test_training_numerics import CASES, change_error, plain_loop, train_cases
from tests.tiny import save_tiny_llama
from tests.workers import run_workers

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module", autouse=True)
def _two(cards: tuple[Card, ...]) -> None:
    if len(cards) < 2:
        pytest.skip(f"there is one card, {cards[0].name}")


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("model"))


def test_two_workers_are_the_plain_loop_at_every_stage(model_path: Path, tmp_path: Path) -> None:
    names = [f"bf16 stage {stage}" for stage in (1, 2, 3)]
    results = run_workers(
        train_cases, 2, model_path, tmp_path, [CASES[name] for name in names], use_gpu=True
    )[0]
    _, start, reference = plain_loop(model_path, 5e-4, bf16_copy=True, device="cuda")
    for name, (_, weights) in zip(names, results, strict=True):
        assert change_error(weights, reference, start) <= 0.03, name


def test_an_adapter_at_stage_3_is_what_it_is_on_a_cpu(model_path: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    cpu, gpu = (
        run_workers(adapters.train_cases, 2, model_path, tmp_path / place, False, use_gpu=place == "gpu")[0]
        for place in ("cpu", "gpu")
    )
    for name, weights in cpu["fp32 stage 3"]["weights"].items():
        np.testing.assert_allclose(gpu["fp32 stage 3"]["weights"][name], weights, atol=1e-5)


def _fails_on_rank_1(_: Any) -> None:
    import torch
    import torch.distributed as dist

    dist.barrier()
    if dist.get_rank() == 1:
        raise ZeroDivisionError("rank 1 ends")
    dist.all_reduce(torch.ones(1, device="cuda"))
    torch.cuda.synchronize()


def test_an_error_on_one_rank_ends_both(model_path: Path) -> None:
    begin = time.monotonic()
    with pytest.raises(AssertionError, match=r"ZeroDivisionError|ended without a result"):
        run_workers(_fails_on_rank_1, 2, model_path, use_gpu=True)
    assert time.monotonic() - begin < 300
