"""The same updates however rows are dealt to workers, and whatever is done to spare memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.integration import test_training_numerics as numerics
from tests.integration.test_training_numerics import change_error, plain_loop, train_cases
from tests.tiny import save_tiny_llama
from tests.workers import run_workers

pytestmark = pytest.mark.integration

RATE = 5e-4


def _case(stage: int, precision: str, **more: Any) -> dict[str, Any]:
    return {"stage": stage, "precision": precision, "rate": RATE, **more}


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("model"))


# What is asked for, by a name for it.
SPARING = {
    "in pieces of 3": {"micro_batch": 3},
    "activations again": {"checkpoint_activations": True},
    "masters on the host": {"offload": "cpu"},
    "all of it": {"micro_batch": 2, "checkpoint_activations": True, "offload": "cpu"},
}


@pytest.mark.parametrize("num_workers", [1, 2])
def test_what_spares_memory_changes_no_update(model_path: Path, tmp_path: Path, num_workers: int) -> None:
    given = [
        (stage, precision, how)
        for stage, precision in ((0, "fp32"), (1, "fp32"), (3, "fp32"), (1, "bf16"), (2, "bf16"), (3, "bf16"))
        for how in SPARING
        if not (stage == 0 and "offload" in SPARING[how])
        # Two workers add collectives between the pieces alone.
        if num_workers == 1 or (stage in (1, 3) and how in ("in pieces of 3", "all of it"))
    ]
    cases = [_case(stage, precision, **SPARING[how]) for stage, precision, how in given]
    results = run_workers(train_cases, num_workers, model_path, tmp_path, cases)[0]
    plain = {
        precision: plain_loop(model_path, RATE, bf16_copy=precision == "bf16")
        for precision in ("fp32", "bf16")
    }
    errors = {}
    for (stage, precision, how), (losses, weights) in zip(given, results, strict=True):
        expected, start, reference = plain[precision]
        errors[stage, precision, how] = change_error(weights, reference, start)
        np.testing.assert_allclose(losses, expected, rtol=1e-5 if precision == "fp32" else 5e-3)
    for (_, precision, _), error in errors.items():
        assert error <= (1e-5 if precision == "fp32" else 0.03), errors


@pytest.mark.parametrize(("num_workers", "batch_size"), [(3, 8), (3, 4), (4, 2)])
def test_rows_that_workers_cannot_share_equally_count_equally(
    model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_workers: int, batch_size: int
) -> None:
    cases = [_case(stage, "fp32", batch=batch_size) for stage in (0, 3)]
    cases.append(_case(1, "fp32", batch=batch_size, micro_batch=1))
    monkeypatch.setattr(numerics, "BATCH", batch_size)
    expected, start, reference = plain_loop(model_path, RATE)
    for losses, weights in run_workers(train_cases, num_workers, model_path, tmp_path, cases)[0]:
        np.testing.assert_allclose(losses, expected, rtol=1e-5)
        assert change_error(weights, reference, start) <= 1e-5
