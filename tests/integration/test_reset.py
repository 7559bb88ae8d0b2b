"""A trial in a used engine gives the bits of a trial in a fresh process, whatever ran before it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from rayfit.errors import TrialError
from rayfit.plan.deepspeed import deepspeed_config
from tests.tiny import random_rows, save_tiny_llama
from tests.workers import on_gpus, run_workers

pytestmark = pytest.mark.integration

# Stage, precision, and what else: a fused Adam as on GPUs, all that spares memory.
CASES: list[tuple[int, str, dict[str, Any]]] = [
    *((stage, precision, {}) for precision in ("fp32", "bf16") for stage in (0, 1, 2, 3)),
    *((stage, "bf16", {"use_gpu": True}) for stage in (1, 3)),
    *((stage, "bf16", {"micro_batch": 3, "offload": "cpu"}) for stage in (2, 3)),
    *((stage, "bf16", {"micro_batch": 3}) for stage in (1, 2)),
]


def _task(
    model_path: Path,
    folder: Path,
    *,
    rate: float,
    seed: int,
    updates: int = 6,
    micro_batch: int | None = None,
) -> Any:
    from rayfit.train.loop import TrainTask
    from rayfit.train.schedule import Schedule

    return TrainTask(
        schedule=Schedule(
            batch_size=8,
            num_updates=updates,
            learning_rate=rate,
            order_seed=seed,
            model_path=model_path,
            export_dtype="fp32",
            micro_batch=micro_batch,
        ),
        train_ids=random_rows(12, 24, seed=seed),
        validation_ids=random_rows(3, 24, seed=9),
        measured_updates=(0, updates // 2, updates),
        checkpoint_path=folder,
    )


def digests_of(model_path: Path, folder: Path, used: bool) -> list[tuple[str, int]]:
    """Per case: the digest of the measured trial's masters, after other trials (one failing half-way) or after none."""
    import torch
    import torch.distributed as dist

    from rayfit.train import loop
    from rayfit.train.engine import build_engine
    from rayfit.train.reset import take_snapshot

    digests = []
    for stage, precision, settings in CASES:
        config = deepspeed_config(
            zero_stage=stage,
            precision=precision,
            batch_size=8,
            num_workers=dist.get_world_size(),
            **{"use_gpu": on_gpus(), **settings},
        )
        engine = build_engine(
            model_path, config, use_gpu=on_gpus(), checkpoint_activations="micro_batch" in settings
        )
        snapshot = take_snapshot(engine)
        task = partial(_task, model_path, micro_batch=settings.get("micro_batch"))
        if used:
            loop.train_trial(engine, snapshot, task(folder / "a", rate=3e-3, seed=1), lambda point: None)
            _fail_between_backward_and_step(engine, snapshot, task(folder / "b", rate=1e-2, seed=2))
        torch.rand(7)  # a used process has drawn numbers
        result = loop.train_trial(engine, snapshot, task(folder / "c", rate=1e-3, seed=3), lambda _: None)
        digests.append(result.weights_sha256)
    return digests


def _fail_between_backward_and_step(engine: Any, snapshot: Any, task: Any) -> None:
    from rayfit.train import loop

    step, calls = engine.step, []

    def failing_step() -> None:
        calls.append(1)
        if len(calls) == 4:
            raise TrialError("made to fail")
        step()

    engine.step = failing_step
    try:
        with pytest.raises(TrialError):
            loop.train_trial(engine, snapshot, task, lambda point: None)
    finally:
        engine.step = step


@pytest.mark.parametrize("world", [1, 2])
def test_used_engine_gives_the_bits_of_a_fresh_one(tmp_path: Path, world: int) -> None:
    model_path = save_tiny_llama(tmp_path / "model")
    fresh = run_workers(digests_of, world, model_path, tmp_path / "fresh", False)
    used = run_workers(digests_of, world, model_path, tmp_path / "used", True)
    assert all(ranks == fresh[0] for ranks in fresh)
    for case, expected, got in zip(CASES, fresh[0], used[0], strict=True):
        assert got == expected, f"stage {case[0]} {case[1]} with {world} workers"
    assert len(set(fresh[0])) > 2, "precisions and stages that differ must not share one digest"


def _two_seeds(model_path: Path, folder: Path) -> list[str]:
    from rayfit.train import loop
    from rayfit.train.engine import build_engine
    from rayfit.train.reset import take_snapshot

    engine = build_engine(
        model_path, deepspeed_config(zero_stage=1, precision="bf16", batch_size=8, num_workers=1)
    )
    snapshot = take_snapshot(engine)
    return [
        loop.train_trial(
            engine, snapshot, _task(model_path, folder, rate=1e-3, seed=s), lambda _: None
        ).weights_sha256
        for s in (3, 3, 4)
    ]


def test_seeds_decide_the_bits(tmp_path: Path) -> None:
    first, again, other = run_workers(_two_seeds, 1, save_tiny_llama(tmp_path / "model"), tmp_path / "out")[0]
    assert first == again
    assert first != other
