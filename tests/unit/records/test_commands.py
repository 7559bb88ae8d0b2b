"""Every record says, through its sweep if need be, which command makes it again."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from rayfit.records.commands import command_of
from rayfit.records.storage import Storage
from rayfit.records.sweep import SweepRecord
from tests.finished import Finished
from tests.unit.plan.examples import plan_of


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "my runs")


@pytest.fixture
def sweep(storage: Storage) -> SweepRecord:
    """A sweep of two launches, the last of which took other options."""
    Finished(storage, plan_of(storage)).begun()
    again = Finished(storage, plan_of(storage), started_at="2026-03-02T10:00:00.000+00:00")
    again.launch.command = "python sweeps/x.py --samples 8"
    again.all()
    return again.record()


def test_what_a_sweep_names_is_made_by_its_last_launch(storage: Storage, sweep: SweepRecord) -> None:
    assert len(sweep.launches) == 2
    expected = f"python sweeps/x.py --samples 8 --storage '{storage.root}'"
    named = [(each.kind, each.id) for each in sweep.measurements]
    named += [("models", sweep.uses.models[0]), ("texts", sweep.uses.texts[0]), ("rows", sweep.uses.rows[0])]
    assert len({kind for kind, _ in named}) == 7
    for kind, identifier in [*named, ("sweeps", sweep.id)]:
        assert command_of(storage, kind, identifier) == expected
        assert command_of(storage, kind, "unknown") == ""


def test_a_trial_has_its_own(storage: Storage, sweep: SweepRecord) -> None:
    trial = storage.trial(sweep.trials[0])
    assert trial is not None and trial.command.startswith("python sweeps/data_quantity.py")
    assert command_of(storage, "trials", trial.id) == f"{trial.command} --storage '{storage.root}'"


def test_a_storage_that_is_said_is_not_said_twice(storage: Storage, sweep: SweepRecord) -> None:
    launch = msgspec.structs.replace(sweep.launches[-1], command="python sweeps/x.py --storage elsewhere")
    other = msgspec.structs.replace(sweep, id="s2", launches=(launch,))
    storage.write("sweeps", "s2", other)
    assert command_of(storage, "sweeps", "s2") == "python sweeps/x.py --storage elsewhere"
