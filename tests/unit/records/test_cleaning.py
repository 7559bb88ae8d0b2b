"""What can go, and what must stay."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from rayfit.commands import run
from rayfit.records.cleaning import leftovers, remove
from rayfit.records.leases import Holding, take, trial_lease
from rayfit.records.states import all_states, remove_states
from rayfit.records.storage import Storage
from rayfit.records.trials import product_path
from tests.finished import Finished
from tests.unit.plan.examples import plan_of
from tests.unit.records.test_states import save_state


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "runs")


def _names(storage: Storage) -> list[str]:
    return [each.path.name for each in leftovers(storage)]


def test_of_a_finished_trial_only_its_products_stay(storage: Storage) -> None:
    plan = plan_of(storage)
    record = Finished(storage, plan).train(plan.trials[0])
    assert leftovers(storage) == []
    (storage.folder("trials", record.id) / "attempt-x-1").mkdir()
    save_state(storage, 10, trial=record.id)
    assert _names(storage) == ["attempt-x-1", "states"]
    assert remove(storage, leftovers(storage))
    assert leftovers(storage) == []
    assert all(product_path(storage, record, each).parent.is_dir() for each in record.products)


def test_of_an_unfinished_trial_its_newest_states_and_what_they_have_kept_stay(storage: Storage) -> None:
    for update in (5, 7, 10):
        save_state(storage, update)
    begun = storage.folder("trials", "t") / "states" / "000000011-bb"
    begun.mkdir()
    (begun / "rank-0-of-1.safetensors").write_bytes(b"numbers")
    attempt = storage.folder("trials", "t") / "attempt-x-1"
    attempt.mkdir()
    assert _names(storage) == ["attempt-x-1", begun.name]
    assert [each.bytes for each in leftovers(storage)] == [0, 7]
    holding = take(storage, trial_lease("t"), "launch")
    assert isinstance(holding, Holding) and leftovers(storage) == [], "it is being trained"
    holding.release()
    assert remove(storage, leftovers(storage))
    assert [state.record.update for state in all_states(storage, "t")] == [10, 7]
    remove_states(storage, "t")


def test_a_state_of_the_next_edition_stays(storage: Storage) -> None:
    plan = plan_of(storage)
    record = Finished(storage, plan).train(plan.trials[0])
    save_state(storage, 10, trial=record.id, edition=2)
    assert leftovers(storage) == []


def test_what_was_begun_under_a_temporary_name_goes_once_nobody_touches_it(storage: Storage) -> None:
    folder = storage.root / "models" / ".model.aa.tmp"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"num")
    assert leftovers(storage) == []
    for path in (folder / "model.safetensors", folder):
        os.utime(path, (time.time() - 3700,) * 2)
    assert [(each.path, each.bytes) for each in leftovers(storage)] == [(folder, 3)]


def test_the_command_shows_first_and_removes_when_told(
    storage: Storage, capsys: pytest.CaptureFixture[str]
) -> None:
    save_state(storage, 10)
    words = ["clean", "--storage", str(storage.root)]
    assert run(words) == 0 and "nothing is left over" in capsys.readouterr().out
    (storage.folder("trials", "t") / "attempt-x-1").mkdir()
    assert run(words) == 0
    assert "trials/t/attempt-x-1  (an attempt that came to nothing)" in capsys.readouterr().out
    assert run([*words, "--delete"]) == 0 and "removed 0.000 GiB in 1 places" in capsys.readouterr().out
    assert leftovers(storage) == []
