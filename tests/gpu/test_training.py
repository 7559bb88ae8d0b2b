"""Training on a card: against a plain loop on the same card, from a used engine, exported, and in how much memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from rayfit.gpu_memory import out_of_memory
from rayfit.plan.arrangement import Arrangement, Load
from rayfit.plan.cards import Card
from rayfit.plan.deepspeed import deepspeed_config
from rayfit.plan.memory import CONTEXT_BYTES, peak_memory
from rayfit.shape import shape_of_config
from tests.integration.test_reset import CASES as RESET_CASES
from tests.integration.test_reset import digests_of
from tests.integration.test_training_numerics import CASES, change_error, plain_loop, train_cases
from tests.tiny import random_rows, save_tiny_llama
from tests.workers import run_workers

pytestmark = pytest.mark.gpu

RATE = 5e-4


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def ours(
    model_path: Path, tmp_path_factory: pytest.TempPathFactory, cards: tuple[Card, ...]
) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("checkpoints")
    results = run_workers(train_cases, 1, model_path, folder, list(CASES.values()), use_gpu=True)[0]
    return dict(zip(CASES, results, strict=True))


@pytest.mark.parametrize("stage", [0, 3])
def test_fp32_is_the_plain_loop(ours: dict[str, Any], model_path: Path, stage: int) -> None:
    _, start, reference = plain_loop(model_path, RATE, device="cuda")
    assert change_error(ours[f"fp32 stage {stage} {RATE}"][1], reference, start) <= 1e-3


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_bf16_is_the_plain_loop_with_a_rounded_copy(
    ours: dict[str, Any], model_path: Path, stage: int
) -> None:
    _, start, reference = plain_loop(model_path, RATE, bf16_copy=True, device="cuda")
    assert change_error(ours[f"bf16 stage {stage}"][1], reference, start) <= 0.03


def test_a_used_engine_gives_the_bits_of_a_fresh_one(model_path: Path, tmp_path: Path) -> None:
    fresh = run_workers(digests_of, 1, model_path, tmp_path / "fresh", False, use_gpu=True)[0]
    used = run_workers(digests_of, 1, model_path, tmp_path / "used", True, use_gpu=True)[0]
    for case, expected, got in zip(RESET_CASES, fresh, used, strict=True):
        assert got == expected, f"stage {case[0]} {case[1]}"


def _task(model_path: Path, folder: Path, updates: int, tokens: int) -> Any:
    from rayfit.train.loop import TrainTask
    from rayfit.train.schedule import Schedule

    return TrainTask(
        schedule=Schedule(
            batch_size=1,
            num_updates=updates,
            learning_rate=1e-4,
            order_seed=0,
            model_path=model_path,
            export_dtype="fp32",
        ),
        train_ids=random_rows(4, tokens),
        validation_ids=random_rows(2, tokens, seed=1),
        measured_updates=(0, updates),
        checkpoint_path=folder,
    )


def _peaks(model_path: Path, folder: Path) -> dict[int, int]:
    """Per stage: the most bytes that were allocated in three updates."""
    from rayfit.train.engine import build_engine
    from rayfit.train.loop import BatchLosses, run_update

    found = {}
    for stage in (1, 2, 3):
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated()
        config = _config(stage, model_path)
        engine = build_engine(model_path, config, use_gpu=True)
        torch.cuda.reset_peak_memory_stats()
        task, losses = _task(model_path, folder, 3, 8), BatchLosses(3)
        for update in (1, 2, 3):
            run_update(engine, task, update, losses, wants_norm=False)
        found[stage] = torch.cuda.max_memory_allocated() - before
        engine.destroy()
        del engine
    return found


def _num_parameters(model_path: Path) -> int:
    from rayfit.train.directory import file_tensors

    return sum(tensor.numel() for _, tensor in file_tensors(model_path))


def _config(stage: int, model_path: Path) -> dict[str, Any]:
    return deepspeed_config(
        zero_stage=stage,
        precision="bf16",
        batch_size=1,
        num_workers=1,
        num_parameters=_num_parameters(model_path),
        use_gpu=True,
    )


def test_the_peak_of_an_update_is_that_of_the_plan(tmp_path: Path) -> None:
    path = save_tiny_llama(tmp_path / "model", hidden_size=2048, num_layers=8)
    (found,) = run_workers(_peaks, 1, path, tmp_path / "out", use_gpu=True)
    shape = shape_of_config(json.loads((path / "config.json").read_text()))
    for stage, num_bytes in found.items():
        way, load = (
            Arrangement(zero_stage=stage),
            Load(precision="bf16", batch_size=1, sequence_length=8),
        )
        peak = peak_memory(_num_parameters(path), shape, way, load)
        assert num_bytes == pytest.approx(peak.bytes - CONTEXT_BYTES, rel=0.1), f"stage {stage}"


def _grown(model_path: Path, folder: Path) -> list[int]:
    """Bytes allocated on the card after each of 50 trials in one engine."""
    from rayfit.train.engine import build_engine
    from rayfit.train.loop import train_trial
    from rayfit.train.reset import take_snapshot

    engine = build_engine(model_path, _config(1, model_path), use_gpu=True)
    snapshot, sizes = take_snapshot(engine), []
    for _ in range(50):
        train_trial(engine, snapshot, _task(model_path, folder, 2, 24), lambda _: None)
        torch.cuda.synchronize()
        sizes.append(torch.cuda.memory_allocated())
    return sizes


def test_fifty_trials_in_one_engine_leave_nothing(model_path: Path, tmp_path: Path) -> None:
    (sizes,) = run_workers(_grown, 1, model_path, tmp_path / "out", use_gpu=True)
    assert len(set(sizes[1:])) == 1


def test_the_card_s_own_error_is_read() -> None:
    with pytest.raises(torch.OutOfMemoryError) as raised:
        torch.empty(1 << 46, device="cuda")
    line = out_of_memory(raised.value, "here")
    assert "more asked for" in line and "free;" in line
