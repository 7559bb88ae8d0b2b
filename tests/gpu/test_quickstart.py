"""The first sweep on a card, end to end."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.launching import launch, summary, trial_records

pytestmark = pytest.mark.gpu


def test_the_first_sweep_on_a_card(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    storage = tmp_path / "runs"
    output = launch("--scale", "ci", "--use-gpu", "--storage", storage)
    assert "trials: reused 0" in output
    rows = summary(storage)
    assert {row["status"] for row in rows} == {"FINISHED"}
    original = next(row for row in rows if row["who"] == "original")
    for row in rows:
        if row["who"] == "trained":
            assert row["ttr_last_96"] > original["ttr_last_96"] and row["train_loss"] < 0.2
    for record in trial_records(storage).values():
        assert record.deterministic_kernels is True and "compute capability" in record.device


def test_a_card_that_is_too_small_is_said_at_once(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    storage = tmp_path / "runs"
    options = ("--scale", "ci", "--samples", "8", "--num-updates", "20", "--use-gpu", "--storage", storage)
    # A few megabytes of any card: less than the embedded model's activations.
    output = launch(*options, status=1, PYTORCH_CUDA_ALLOC_CONF="per_process_memory_fraction:0.0005")
    assert "out of GPU memory" in output and "died" not in output
    logs = [file.read_text() for file in storage.glob("trials/*/logs/rank0.log")]
    assert all(log.count(" in group ") == 1 for log in logs), "one start"
    assert len(list(storage.glob("logs/groups/*-rank0.log"))) == 1
