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
