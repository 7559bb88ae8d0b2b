"""One holder at a time, whatever happens to it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rayfit.records import leases
from rayfit.records.codec import encode
from rayfit.records.leases import Holding, Lease, held_by, take
from rayfit.records.storage import Storage, write_json


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path)


def _taken(storage: Storage, launch: str = "one", **options: Any) -> Holding:
    holding = take(storage, "trial-a", launch, **options)
    assert isinstance(holding, Holding)
    return holding


def _file(storage: Storage) -> Path:
    (file,) = (storage.root / "leases" / "trial-a").glob("[0-9]*.json")
    return file


def _change(storage: Storage, **changes: Any) -> None:
    """Rewrite the lease, as another machine or an earlier time would have written it."""
    lease = held_by(storage, "trial-a")
    assert lease is not None
    write_json(_file(storage), encode(msgspec.structs.replace(lease, **changes)))
    if "renewed" in changes:
        os.utime(_file(storage), (changes["renewed"],) * 2)


def test_a_second_one_is_told_who_holds_it(storage: Storage) -> None:
    first = _taken(storage)
    second = take(storage, "trial-a", "two")
    assert isinstance(second, Lease)
    assert second.process == os.getpid() and f"process {os.getpid()} on" in second.holder
    assert first.is_held
    first.release()
    assert held_by(storage, "trial-a") is None
    _taken(storage, "two").release()


def _hold_until_killed(root: Path, ready: Any) -> None:
    take(Storage(root), "trial-a", "killed")
    ready.set()
    time.sleep(600)


def _in_another_process(storage: Storage) -> multiprocessing.process.BaseProcess:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=_hold_until_killed, args=(storage.root, ready), daemon=True)
    process.start()
    assert ready.wait(60)
    return process


def test_of_a_process_that_was_killed_here_it_is_taken_over_at_once(storage: Storage) -> None:
    process = _in_another_process(storage)
    assert isinstance(take(storage, "trial-a", "two"), Lease)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    holding = _taken(storage, "two")
    assert _file(storage).name == "2.json", "under the next number"
    assert holding.is_held


@pytest.mark.parametrize("elsewhere", [False, True])
def test_one_that_is_not_renewed_is_taken_over_after_a_minute(storage: Storage, elsewhere: bool) -> None:
    first = _taken(storage)
    _change(storage, renewed=time.time() - 50, **({"machine": "another"} if elsewhere else {}))
    assert isinstance(take(storage, "trial-a", "two"), Lease)
    _change(storage, renewed=time.time() - 61)
    assert _taken(storage, "two").is_held
    assert not first.is_held
    first.release()
    assert held_by(storage, "trial-a") is not None, "it was not the first's to give back"


def test_a_holder_that_lives_on_stops_renewing(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.05)
    first = _taken(storage)
    before = _file(storage).read_text()
    deadline = time.monotonic() + 30
    while _file(storage).read_text() == before:
        assert time.monotonic() < deadline, "it is renewed"
        time.sleep(0.05)
    second = _taken(storage, "one", from_same_launch=True)
    first._thread.join(30)
    assert not first._thread.is_alive() and second.is_held and not first.is_held


def test_a_launch_takes_over_its_own(storage: Storage) -> None:
    _taken(storage)
    assert isinstance(take(storage, "trial-a", "two", from_same_launch=True), Lease)
    assert _taken(storage, from_same_launch=True).is_held


@pytest.mark.parametrize("content", ["", '{"number": 1'])
def test_a_lease_that_cannot_be_read_is_held_for_a_minute(storage: Storage, content: str) -> None:
    _taken(storage)
    file = _file(storage)
    file.write_text(content)
    lease = take(storage, "trial-a", "two")
    assert isinstance(lease, Lease) and "an unknown machine" in lease.holder
    os.utime(file, (time.time() - 61,) * 2)
    assert _taken(storage, "two").is_held


def _race(root: Path, start: Any, results: Any, name: str) -> None:
    start.wait()
    holding = take(Storage(root), "trial-a", name)
    results.put(isinstance(holding, Holding))
    time.sleep(2)


def test_of_several_at_once_one_gets_it(storage: Storage) -> None:
    context = multiprocessing.get_context("spawn")
    start, results = context.Event(), context.Queue()
    racers = [
        context.Process(target=_race, args=(storage.root, start, results, str(each)), daemon=True)
        for each in range(4)
    ]
    for racer in racers:
        racer.start()
    start.set()
    assert sorted(results.get(timeout=120) for _ in racers) == [False, False, False, True]
    for racer in racers:
        racer.join()
