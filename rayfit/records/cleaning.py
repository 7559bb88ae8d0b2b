"""What killed processes and superseded states have left in a storage, which nobody will ask for again."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from rayfit.errors import RayfitError
from rayfit.records.leases import Lease, held_by, take, trial_lease
from rayfit.records.states import KEPT_STATES, all_states, states_folder
from rayfit.records.storage import TRIALS, Storage

# Whoever makes something under a temporary name writes to it all the time.
UNTOUCHED_SECONDS = 3600.0


class Leftover(NamedTuple):
    """A folder or file that can go: what it is, and its size in bytes."""

    path: Path
    what: str
    bytes: int


def leftovers(storage: Storage) -> list[Leftover]:
    """All that can go, in the order of paths. Nothing of a trial that is being trained now, whoever trains it.

    Of a trial whose record cannot be read nothing is named, for nobody knows what it points at.
    """
    found = list(_temporary(storage))
    for folder in sorted((storage.root / TRIALS).glob("[!.]*/")):
        if held_by(storage, trial_lease(folder.name)) is None:
            try:
                found += _of_trial(storage, folder)
            except RayfitError:
                continue
    return sorted(found)


def remove(storage: Storage, found: list[Leftover]) -> list[Leftover]:
    """Remove what was found; returns what was, without what is of trials that are being trained by now."""
    removed = []
    for each in found:
        kind, name = each.path.relative_to(storage.root).parts[:2]
        holding = take(storage, trial_lease(name), "clean") if kind == TRIALS and name[0] != "." else None
        if isinstance(holding, Lease):
            continue
        try:
            if each.path.is_dir():
                shutil.rmtree(each.path, ignore_errors=True)
            else:
                each.path.unlink(missing_ok=True)
        finally:
            if holding is not None:
                holding.release()
        removed.append(each)
    return removed


def _of_trial(storage: Storage, folder: Path) -> Iterator[Leftover]:
    record, states = storage.trial(folder.name), all_states(storage, folder.name)
    # A training with --fresh that was interrupted goes on to the next edition.
    wanted = [state for state in states if record is None or state.record.edition > record.edition][
        :KEPT_STATES
    ]
    products = () if record is None else record.products
    kept = [*(each.path for each in products)]
    kept += [each.path for state in wanted for each in state.record.kept.values()]
    attempts = {Path(path).parts[0] for path in kept}
    for path in folder.glob("attempt-*"):
        if path.name not in attempts:
            yield _leftover(path, "an attempt that came to nothing")
    place = states_folder(storage, folder.name)
    if not wanted and place.is_dir():
        yield _leftover(place, "states of a finished trial" if record else "a state that was never whole")
        return
    folders = {state.folder for state in wanted}
    for path in place.glob("*-*"):
        if path not in folders:
            yield _leftover(path, "a superseded state")


def _temporary(storage: Storage) -> Iterator[Leftover]:
    for path in storage.root.glob("*/.*.tmp"):
        newest = max((each.stat().st_mtime for each in (path, *path.rglob("*"))), default=0.0)
        if time.time() - newest > UNTOUCHED_SECONDS:
            yield _leftover(path, "begun by a process that was killed")


def _leftover(path: Path, what: str) -> Leftover:
    return Leftover(path, what, sum(_size(each) for each in (path, *path.rglob("*"))))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except FileNotFoundError:  # it is being removed by somebody else
        return 0
