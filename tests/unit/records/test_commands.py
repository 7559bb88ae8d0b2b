"""Every record says, through its sweep if need be, which command makes it again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rayfit.records.commands import command_of
from rayfit.records.storage import Storage


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    storage = Storage(tmp_path / "my runs")
    sweep: dict[str, Any] = {
        "id": "s",
        "launches": [{"command": "python sweeps/old.py"}, {"command": "python sweeps/x.py --samples 8"}],
        "evaluations": [{"evaluation_id": "e", "predictions_id": "p"}],
        "comparisons": [{"comparison_id": "c"}],
        "uses": {"models": ["m"], "texts": ["t"], "rows": ["r"]},
    }
    storage.write("sweeps", "s", sweep)
    return storage


@pytest.mark.parametrize(
    ("kind", "identifier"),
    [
        ("evaluations", "e"),
        ("predictions", "p"),
        ("comparisons", "c"),
        ("models", "m"),
        ("texts", "t"),
        ("rows", "r"),
    ],
)
def test_what_a_sweep_names_is_made_by_its_last_launch(storage: Storage, kind: str, identifier: str) -> None:
    expected = f"python sweeps/x.py --samples 8 --storage '{storage.root}'"
    assert command_of(storage, kind, {"id": identifier}) == expected
    assert command_of(storage, kind, {"id": "unknown"}) == ""


def test_a_trial_has_its_own(storage: Storage) -> None:
    record = {"id": "trial", "command": "python sweeps/x.py --seeds 1"}
    assert command_of(storage, "trials", record) == f"python sweeps/x.py --seeds 1 --storage '{storage.root}'"


def test_a_storage_that_is_said_is_not_said_twice(storage: Storage) -> None:
    sweep = {"id": "s2", "launches": [{"command": "python sweeps/x.py --storage elsewhere"}]}
    assert command_of(storage, "sweeps", sweep) == "python sweeps/x.py --storage elsewhere"
