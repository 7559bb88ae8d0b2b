"""A record that is not whole is refused by file and key, and what to do is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rayfit.commands import run
from rayfit.errors import RayfitError
from rayfit.records.codec import dumps, encode
from rayfit.records.storage import MARK, RECORD, STORAGE_VERSION, Storage
from rayfit.records.sweep import SweepRecord
from rayfit.records.trials import FAILURE, read_failure
from rayfit.records.values import Entry
from tests.finished import Finished
from tests.unit.plan.examples import plan_of


@pytest.fixture
def made(tmp_path: Path) -> tuple[Storage, SweepRecord]:
    storage = Storage(tmp_path / "runs")
    return storage, Finished(storage, plan_of(storage)).all().record()


def test_every_record_comes_back_as_it_was_written(made: tuple[Storage, SweepRecord]) -> None:
    storage, sweep = made
    assert storage.sweep(sweep.id) == sweep
    trial = storage.trial(sweep.trials[0])
    assert trial is not None
    storage.write("trials", "again", trial)
    assert storage.trial("again") == trial
    for each in sweep.measurements:
        record = storage.measurement(each.kind, each.id)
        assert record is not None and record.id == each.id
        storage.write(each.kind, "again", record)
        assert storage.measurement(each.kind, "again") == record


def _lose(record: dict[str, Any], *path: str) -> None:
    for key in path[:-1]:
        record = record[key]
    del record[path[-1]]


def _put(record: dict[str, Any], value: Any, *path: str) -> None:
    for key in path[:-1]:
        record = record[key]
    record[path[-1]] = value


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (lambda record: _lose(record, "weights_sha256"), "lacks the key 'weights_sha256'"),
        (lambda record: _lose(record, "final", "seconds"), "lacks the key 'final.seconds'"),
        (lambda record: _put(record, 1, "extra"), "has the unknown key 'extra'"),
        (lambda record: _put(record, 1, "model", "extra"), "has the unknown key 'model.extra'"),
        (lambda record: _put(record, "two", "edition"), "has a wrong value at 'edition'"),
    ],
)
def test_a_wrong_key_is_named_with_its_file(
    made: tuple[Storage, SweepRecord], break_it: Callable[[dict[str, Any]], None], says: str
) -> None:
    storage, sweep = made
    file = storage.folder("trials", sweep.trials[0]) / RECORD
    record = json.loads(file.read_text())
    break_it(record)
    file.write_text(json.dumps(record))
    with pytest.raises(RayfitError) as caught:
        storage.trial(sweep.trials[0])
    assert str(file) in str(caught.value) and says in str(caught.value)
    assert f"remove the folder {file.parent}" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b'{"id": "x"', b"\x00\x00", b'{"id": "\xff"}'])
def test_a_record_that_was_cut_short_names_its_file_in_every_command(
    made: tuple[Storage, SweepRecord], content: bytes
) -> None:
    storage, sweep = made
    file = storage.folder("trials", sweep.trials[0]) / RECORD
    file.write_bytes(content)
    commands = (
        ["list"],
        ["show", sweep.trials[0]],
        ["report"],
        ["generate", "--prompt", "x", "--trial", sweep.trials[0]],
    )
    for command in (*commands, ["sync"]):
        with pytest.raises(RayfitError) as caught:
            run([*command, "--storage", str(storage.root)])
        assert f"{file} was cut short" in str(caught.value), command
        assert "launch its sweep again" in str(caught.value)


def test_what_is_to_be_removed_is_no_more_than_what_is_broken(made: tuple[Storage, SweepRecord]) -> None:
    storage, sweep = made
    failure = storage.folder("trials", sweep.trials[0]) / FAILURE
    failure.write_text("{")
    with pytest.raises(RayfitError, match="remove this file alone"):
        read_failure(storage, sweep.trials[0])
    for content in ("{", "{}"):
        (storage.root / MARK).write_text(content)
        with pytest.raises(RayfitError) as caught:
            storage.check_version()
        assert f'it is to hold {{"version": N}}, N being {STORAGE_VERSION}' in str(caught.value)
        assert "remove the folder" not in str(caught.value)


def test_numbers_of_numpy_are_numbers() -> None:
    entry = Entry(value=np.float64(0.5), low=np.float32(0.25), count=np.int64(3))
    assert json.loads(dumps(encode(entry))) == {
        "value": 0.5,
        "low": 0.25,
        "high": None,
        "count": 3,
        "reason": None,
    }
