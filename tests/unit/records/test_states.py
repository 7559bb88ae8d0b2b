"""Which states a training can go on from, and which are removed."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rayfit.records.states import (
    KEPT_STATES,
    STATE_VERSION,
    KeptWeights,
    Spent,
    State,
    StateOf,
    StatePart,
    StateRecord,
    all_states,
    fault_of,
    forget_points,
    kept_points,
    new_state_folder,
    publish_state,
    read_part,
    remove_states,
    states_folder,
    states_of,
    write_part,
    write_point,
)
from rayfit.records.storage import Storage
from tests.unit.track.sweeps import curve

OF = StateOf(trial="t", base_weights=None, rows="aa", num_validation=3, export_dtype="fp32")
POINTS = tuple(curve(0, 5, 10))


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path)


def save_state(storage: Storage, update: int, *, trial: str = "t", **changes: Any) -> Path:
    """A state after an update, as rank 0 makes it exist."""
    folder = new_state_folder(storage, trial, update, changes.pop("token", "aa"))
    (folder).mkdir(parents=True)
    (folder / "rank-0-of-1.safetensors").write_bytes(b"numbers")
    part = StatePart(file="rank-0-of-1.safetensors", bytes=7, sha256=hashlib.sha256(b"numbers").hexdigest())
    write_part(folder, part)
    assert read_part(folder, part.file) == part
    record = StateRecord(
        version=STATE_VERSION,
        of=msgspec.structs.replace(OF, trial=trial),
        update=update,
        stopped=False,
        edition=1,
        launch="first",
        parts=(part,),
        points=tuple(point for point in POINTS if point.update <= update),
        kept={},
        spent=Spent(),
        stretches=(),
        saved_at=f"2030-01-01T00:00:{update:02d}",
    )
    publish_state(folder, msgspec.structs.replace(record, **changes))
    return folder


def _found(storage: Storage, **asked: Any) -> list[int]:
    wanted = {"measured": (0, 5, 10, 20), "keep": (), "edition": 1, "launch": None, "of": OF, **asked}
    of = wanted.pop("of")
    return [state.record.update for state in states_of(storage, of, **wanted)]


def test_the_newest_come_first_and_two_are_kept(storage: Storage) -> None:
    assert _found(storage) == []
    for update in (5, 7, 10):
        save_state(storage, update)
    assert _found(storage) == [10, 7]
    assert len(list(states_folder(storage, "t").iterdir())) == KEPT_STATES
    remove_states(storage, "t")
    assert all_states(storage, "t") == []


def test_what_was_begun_and_is_not_whole_counts_for_nothing_and_goes(storage: Storage) -> None:
    begun = new_state_folder(storage, "t", 8, "bb")
    begun.mkdir(parents=True)
    (begun / "rank-0-of-2.safetensors").write_bytes(b"num")
    assert _found(storage) == [] and begun.exists()
    save_state(storage, 10)
    assert _found(storage) == [10] and not begun.exists()


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"measured": (0, 7, 20)}, "nothing was measured after update 7"),
        ({"keep": (5, 20)}, "the weights after update 5 were not kept"),
        ({"edition": 2}, "it is of edition 1, not 2"),
        ({"launch": "second"}, "all is to be trained afresh"),
        ({"of": msgspec.structs.replace(OF, rows="bb")}, "it has another rows"),
        ({"of": msgspec.structs.replace(OF, base_weights="bb")}, "it has another base_weights"),
        ({"of": msgspec.structs.replace(OF, num_validation=4)}, "it has another num_validation"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_state_that_lacks_what_is_wanted_is_no_beginning(
    storage: Storage, asked: dict[str, Any], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    save_state(storage, 10)
    caplog.set_level(logging.INFO)
    assert _found(storage) == [10]
    assert _found(storage, **asked) == []
    assert why in caplog.text


def test_more_than_is_wanted_does_no_harm(storage: Storage) -> None:
    save_state(storage, 10)
    assert _found(storage, measured=(0, 10, 20), launch="first") == [10]
    assert _found(storage, of=msgspec.structs.replace(OF, export_dtype="bf16")) == [10], "no weights are kept"


def test_weights_that_were_kept_must_be_there_and_of_the_same_numbers(
    storage: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    place = storage.folder("trials", "t") / "attempt-a" / "weights-5"
    place.mkdir(parents=True)
    (place / "config.json").write_text("{}")
    kept = {"5": KeptWeights(weights_sha256="aa", path="attempt-a/weights-5")}
    save_state(storage, 10, kept=kept)
    assert _found(storage, keep=(5, 20)) == [10]
    assert _found(storage, keep=(5,), of=msgspec.structs.replace(OF, export_dtype="bf16")) == []
    (place / "config.json").unlink()
    assert _found(storage, keep=(5, 20)) == []
    assert "attempt-a/weights-5 that it kept are gone" in caplog.text


def test_a_state_of_another_version_is_left_alone_and_counts_for_nothing(storage: Storage) -> None:
    save_state(storage, 10, version=STATE_VERSION + 1)
    assert _found(storage) == [] and len(all_states(storage, "t")) == 1


def test_a_part_is_whole_or_its_fault_is_named(storage: Storage) -> None:
    folder = save_state(storage, 10)
    file = folder / "rank-0-of-1.safetensors"
    (part,) = all_states(storage, "t")[0].record.parts
    assert fault_of(folder, part) == ""
    file.write_bytes(b"Numbers")
    assert fault_of(folder, part) == f"{file} has another content than was written"
    file.write_bytes(b"number")
    assert fault_of(folder, part) == f"{file} has 6 bytes, not 7"
    file.unlink()
    assert fault_of(folder, part) == f"{file} is gone"


def test_points_keep_their_first_time_while_their_numbers_are_the_same(storage: Storage) -> None:
    first, later = curve(5)[0], curve(5, stretched=2.0)[0]
    assert first.seconds != later.seconds
    assert write_point(storage, "t", first) == first
    assert write_point(storage, "t", later) == first
    other = msgspec.structs.replace(later, train_loss=9.0)
    assert write_point(storage, "t", other) == other
    assert kept_points(storage, "t") == {5: other}
    state = State(save_state(storage, 5), all_states(storage, "t")[0].record)
    assert state.folder.exists() and kept_points(storage, "t") == {5: other}, "a state leaves points alone"
    forget_points(storage, "t")
    assert kept_points(storage, "t") == {}
