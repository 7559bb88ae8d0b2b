"""What is kept of a training while it runs: states to go on from. `manifest.json`, written last, makes one exist.

Files of plain tensors and one JSON file, readable whatever becomes of the libraries that trained. Unlike what a trial
leaves, a state is nobody's result: it is removed when the trial's record is there.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Collection
from pathlib import Path

import msgspec

from rayfit.errors import RayfitError
from rayfit.identity import file_digest
from rayfit.records.codec import encode, read_record
from rayfit.records.storage import TRIALS, Storage, write_json
from rayfit.records.trial import Point, Stretch, TrialRecord
from rayfit.records.values import Value

MANIFEST = "manifest.json"
STATES = "states"
KEPT_STATES = 2
# Raised when the files of a state mean something else than before; states of another version count for nothing.
STATE_VERSION = 1

log = logging.getLogger("rayfit.states")


class StatePart(Value, frozen=True, kw_only=True):
    """One rank's file of a state."""

    file: str
    bytes: int
    sha256: str


class KeptWeights(Value, frozen=True, kw_only=True):
    """Weights kept along the way: the digest of their fp32 masters, and where they lie in the trial's folder."""

    weights_sha256: str
    path: str


class StateOf(Value, frozen=True, kw_only=True):
    """What a training is of; a state of anything else is no beginning for it.

    `trial`: its id, which has the recipe, the selection and the versions in it. `base_weights`: of a made model, null of
    others, whose files the id has. `rows`: the fingerprint of the training rows. `num_validation`: rows that each point is
    measured over; `export_dtype`: of kept weights.
    """

    trial: str
    base_weights: str | None
    rows: str
    num_validation: int
    export_dtype: str


class Spent(Value, frozen=True, kw_only=True):
    """Seconds of a training by now: its updates, measuring along them, exporting, waiting for states."""

    train: float = 0.0
    measure: float = 0.0
    export: float = 0.0
    state: float = 0.0

    @property
    def total(self) -> float:
        """All of it."""
        return self.train + self.measure + self.export + self.state


class StateRecord(Value, frozen=True, kw_only=True):
    """A whole state, taken after `update` updates and what belongs to them; `stopped` where no more are to come.

    `edition` is the one that the trial's record will have. `launch`: the launch that wrote it, which under `--fresh` goes on
    from its own states alone. `stretches`: who trained its updates, the last up to this state. `points`: the curve so far.
    """

    version: int
    of: StateOf
    update: int
    stopped: bool
    edition: int
    launch: str
    parts: tuple[StatePart, ...]
    points: tuple[Point, ...]
    kept: dict[str, KeptWeights]
    spent: Spent
    stretches: tuple[Stretch, ...]
    saved_at: str


class State(msgspec.Struct, frozen=True):
    """A state and the folder that it lies in."""

    folder: Path
    record: StateRecord


def states_folder(storage: Storage, trial_id: str) -> Path:
    """Where the states of a trial lie; there need not be any."""
    return storage.folder(TRIALS, trial_id) / STATES


def new_state_folder(storage: Storage, trial_id: str, update: int, token: str) -> Path:
    """Where the state after an update is to be written; not created. `token`: of this try at training."""
    return states_folder(storage, trial_id) / f"{update:09d}-{token}"


def write_point(storage: Storage, trial_id: str, point: Point) -> Point:
    """Keep a point of the training that runs; returns it, or the one kept before where all its numbers are the same.

    So an update that is done once more, after a state was gone on from, leaves its point at the time that it first had.
    Raises OSError where there is no room.
    """
    path = _points_folder(storage, trial_id) / f"{point.update:09d}.json"
    before = _read_point(path)
    if before is not None and msgspec.structs.replace(before, seconds=point.seconds) == point:
        return before
    write_json(path, encode(point))
    return point


def kept_points(storage: Storage, trial_id: str) -> dict[int, Point]:
    """The points of a training that runs, or was interrupted, by their updates; those of a finished one are in its curve."""
    found = (_read_point(path) for path in sorted(_points_folder(storage, trial_id).glob("[0-9]*.json")))
    return {point.update: point for point in found if point is not None}


def forget_points(storage: Storage, trial_id: str) -> None:
    """Remove the points of an earlier try, which a training that begins anew does not continue."""
    shutil.rmtree(_points_folder(storage, trial_id), ignore_errors=True)


def _points_folder(storage: Storage, trial_id: str) -> Path:
    return states_folder(storage, trial_id) / "points"


def _read_point(path: Path) -> Point | None:
    try:
        return read_record(path, Point)
    except RayfitError as error:
        log.warning("a point is left out: %s", error)
        return None


def write_part(folder: Path, part: StatePart) -> None:
    """Say that a rank's file is whole."""
    write_json(folder / f"{part.file}.json", encode(part))


def read_part(folder: Path, file: str) -> StatePart | None:
    """What is said of a rank's file, or None while it is being written."""
    return read_record(folder / f"{file}.json", StatePart)


def publish_state(folder: Path, record: StateRecord) -> None:
    """Make a state exist, all of whose parts are written, and remove those of its trial that it supersedes."""
    write_json(folder / MANIFEST, encode(record))
    remove_superseded(folder.parent)


def keep_only(storage: Storage, trial_id: str, kept: Collection[State]) -> None:
    """Remove all states of a trial but these: what a training does not go on from would pass for newer than its own."""
    folders = {state.folder for state in kept}
    for folder in _folders(states_folder(storage, trial_id)):
        if folder not in folders:
            shutil.rmtree(folder, ignore_errors=True)


def remove_superseded(states: Path) -> None:
    """Remove all but the newest states of a trial, and what was begun of others. Only who trains the trial may."""
    kept = {state.folder for state in _read_all(states)[:KEPT_STATES]}
    for folder in _folders(states):
        if folder not in kept:
            shutil.rmtree(folder, ignore_errors=True)


def all_states(storage: Storage, trial_id: str) -> list[State]:
    """The states of a trial that have a readable manifest, the newest first."""
    return _read_all(states_folder(storage, trial_id))


def is_begun_anew(storage: Storage, record: TrialRecord) -> bool:
    """Whether a finished trial has a state of its next edition: it was being trained with `--fresh`."""
    return any(state.record.edition > record.edition for state in all_states(storage, record.id))


def states_of(
    storage: Storage,
    of: StateOf,
    *,
    measured: Collection[int],
    keep: Collection[int],
    edition: int,
    launch: str | None,
) -> list[State]:
    """The states from which a training can go on, the newest first; what others lack is logged.

    `measured` and `keep`: updates after which a point and kept weights are wanted. `edition`: that of what is trained.
    `launch`: only states that this launch wrote (under `--fresh`), None for those of any. Whether their files are whole is
    not looked at.
    """
    found = []
    for state in all_states(storage, of.trial):
        lack = _lack(state.record, of, measured, keep, edition, launch)
        lack = lack or _lost_weights(storage, state.record)
        if lack:
            log.info("the state %s is no beginning: %s", state.folder, lack)
        else:
            found.append(state)
    return found


def _lack(
    record: StateRecord,
    of: StateOf,
    measured: Collection[int],
    keep: Collection[int],
    edition: int,
    launch: str | None,
) -> str:
    points = {point.update for point in record.points}
    unmeasured = sorted(update for update in measured if update <= record.update and update not in points)
    unkept = sorted(update for update in keep if update <= record.update and str(update) not in record.kept)
    differs = [
        name
        for name in StateOf.__struct_fields__
        if getattr(record.of, name) != getattr(of, name) and (name != "export_dtype" or record.kept)
    ]
    if record.version != STATE_VERSION:
        return f"it is of version {record.version}, not {STATE_VERSION}"
    if launch is not None and record.launch != launch:
        return "an earlier launch wrote it, and all is to be trained afresh"
    if record.edition != edition:
        return f"it is of edition {record.edition}, not {edition}"
    if differs:
        return f"it has another {', '.join(differs)}"
    if unmeasured:
        return f"nothing was measured after update {unmeasured[0]}, where a point is wanted now"
    if unkept:
        return f"the weights after update {unkept[0]} were not kept, and are wanted now"
    return ""


def _lost_weights(storage: Storage, record: StateRecord) -> str:
    folder = storage.folder(TRIALS, record.of.trial)
    lost = [kept.path for kept in record.kept.values() if not (folder / kept.path / "config.json").is_file()]
    return f"the weights {lost[0]} that it kept are gone" if lost else ""


def fault_of(folder: Path, part: StatePart) -> str:
    """What is wrong with a file of a state, in words that name it; empty where it is whole. Reads all of it."""
    path = folder / part.file
    try:
        size = path.stat().st_size
        if size != part.bytes:
            return f"{path} has {size} bytes, not {part.bytes}"
        if file_digest(path) != part.sha256:
            return f"{path} has another content than was written"
    except FileNotFoundError:
        return f"{path} is gone"
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}"
    return ""


def remove_states(storage: Storage, trial_id: str) -> None:
    """Remove all that is kept of a trial's training."""
    shutil.rmtree(states_folder(storage, trial_id), ignore_errors=True)


def _read_all(states: Path) -> list[State]:
    found = []
    for folder in _folders(states):
        try:
            record = read_record(folder / MANIFEST, StateRecord)
        except RayfitError as error:
            log.warning("a state is left out: %s", error)
            continue
        if record is not None:
            found.append(State(folder, record))
    return sorted(found, key=lambda state: (state.record.update, state.record.saved_at), reverse=True)


def _folders(states: Path) -> list[Path]:
    return [path for path in states.glob("*-*") if path.is_dir()]
