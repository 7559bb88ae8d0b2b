"""Keeping the state of a training while it runs, and going on from it: when, by whom, and that it is whole."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import msgspec
import torch
import torch.distributed as dist

from rayfit.errors import TrialInterrupted
from rayfit.identity import file_digest
from rayfit.records.provenance import now
from rayfit.records.states import (
    STATE_VERSION,
    KeptWeights,
    Spent,
    State,
    StateOf,
    StatePart,
    StateRecord,
    fault_of,
    forget_points,
    keep_only,
    new_state_folder,
    publish_state,
    read_part,
    remove_superseded,
    states_of,
    write_part,
    write_point,
)
from rayfit.records.storage import Storage
from rayfit.records.trial import Point, Stretch
from rayfit.train.state import load_state, take_state, write_state
from rayfit.train.together import from_all, from_rank_0

# About how often the ranks agree on whether a state is to be saved; a notice waits so long, and for one update.
LOOK_SECONDS = 1.0
_MOST_UPDATES_BETWEEN = 1_000
_POLL_SECONDS = 0.05
_PUBLISH_SECONDS = 60.0
# Of a training's time, what standing still for states by the clock may take.
SHARE_OF_STATES = 0.01
# What is trained again in less is not worth a state before the export.
WORTH_SECONDS = 10.0

log = logging.getLogger("rayfit.states")


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a training stands between two updates; `stopped` where no more are to come. `points`: the curve so far."""

    update: int
    stopped: bool
    points: tuple[Point, ...]
    kept: dict[int, KeptWeights]
    spent: Spent


class Keeper(Protocol):
    """What a training asks on every rank alike: where to begin, and after each update whether to go on."""

    @property
    def stretches(self) -> tuple[Stretch, ...]:
        """Who trained the updates, where an earlier try had begun; else empty."""

    def begin(self, engine: Any, reset: Callable[[], None], measured: Collection[int]) -> Progress | None:
        """Put the engine, which was reset, where a state left it; None where there is none to go on from."""

    def keep_point(self, point: Point) -> Point:
        """Called on rank 0 with each point that is measured; returns the one that counts."""

    def after_update(self, engine: Any, update: int, progress: Callable[[], Progress]) -> None:
        """Called between two updates. Raises TrialInterrupted, on all ranks alike, when the training is to end here."""

    def before_export(self, engine: Any, progress: Callable[[], Progress]) -> None:
        """Called once all updates are done."""

    def tell_trouble(self, update: int, trouble: str) -> None:
        """Called on rank 0 with what goes wrong, and is waited for."""

    def end(self) -> None:
        """Called when the training is over, however it ended."""


@dataclass(frozen=True, kw_only=True)
class Keeping:
    """What is to be kept, where, and how often; every rank has the same.

    `anew`: states of other launches than `launch` count for nothing. `seconds` between states, and `every` so many updates,
    each None for never. `token`: of this try, `stretch` what it is.
    """

    storage: Path
    of: StateOf
    keep: tuple[int, ...]
    edition: int
    launch: str
    anew: bool
    token: str
    stretch: Stretch
    seconds: float | None
    every: int | None


@dataclass
class _Writing:
    """A state that is being written by a thread of every rank. Rank 0's waits for all parts and makes the state exist."""

    update: int
    own_written: threading.Event = field(default_factory=threading.Event)
    given_up: threading.Event = field(default_factory=threading.Event)
    error: str = ""
    thread: threading.Thread | None = None

    @property
    def is_over(self) -> bool:
        return self.thread is None or not self.thread.is_alive()


class StateKeeper:
    """Saves states beside training, from which another try goes on. Every rank has one and calls it alike.

    On rank 0, `is_noticed` says whether the training is to be interrupted; it is asked about once a second and must not
    wait. `tell` is called, in a thread, with the update of a state once it is whole, and with why one could not be.
    `may_write`: whether the trial is still this one's to train; else nothing is written or removed that counts.
    """

    def __init__(
        self,
        keeping: Keeping,
        *,
        is_noticed: Callable[[], bool] = lambda: False,
        tell: Callable[[int, str], None] = lambda *_: None,
        may_write: Callable[[], bool] = lambda: True,
    ) -> None:
        self._keeping, self._storage = keeping, Storage(keeping.storage)
        self._is_noticed, self._tell, self._may_write = is_noticed, tell, may_write
        self._before: tuple[Stretch, ...] = ()
        self._writing: _Writing | None = None
        self._next_look = 0
        self._looked_at, self._looked = 0, time.monotonic()
        self._saved_at, self._saved = -1, time.monotonic()
        self._begun_at, self._stood_still = 0, 0.0
        self._has_ended = False

    @property
    def stretches(self) -> tuple[Stretch, ...]:
        """As `Keeper`."""
        return (*self._before, self._now) if self._before else ()

    @property
    def _now(self) -> Stretch:
        return msgspec.structs.replace(self._keeping.stretch, after=self._begun_at)

    def begin(self, engine: Any, reset: Callable[[], None], measured: Collection[int]) -> Progress | None:
        """As `Keeper`. Of several states the newest whose files are whole; what is wrong with others is logged."""
        progress, left = None, from_rank_0(lambda: self._candidates(measured))
        while left and progress is None:
            progress = self._go_on(engine, left[0])
            if progress is None:
                reset()
                left = left[1:]
        if dist.get_rank() == 0 and self._may_write():
            keep_only(self._storage, self._keeping.of.trial, left)
            if progress is None:
                forget_points(self._storage, self._keeping.of.trial)
        self._begun_at = 0 if progress is None else progress.update
        self._looked_at, self._next_look = self._begun_at, self._begun_at + 1
        self._saved_at = self._begun_at if progress else -1
        self._looked = self._saved = time.monotonic()
        return progress

    def _candidates(self, measured: Collection[int]) -> list[State]:
        keeping = self._keeping
        return states_of(
            self._storage,
            keeping.of,
            measured=measured,
            keep=keeping.keep,
            edition=keeping.edition,
            launch=keeping.launch if keeping.anew else None,
        )

    def _go_on(self, engine: Any, state: State) -> Progress | None:
        """Load a state if all ranks find it whole, each looking at its share of the files."""
        record, rank, world = state.record, dist.get_rank(), dist.get_world_size()
        own = (fault_of(state.folder, part) for part in record.parts[rank::world])
        faults = from_all(next(filter(None, own), ""))
        fault = next(filter(None, faults), "")
        if not fault:
            fault = load_state(engine, [state.folder / part.file for part in record.parts], record.update)
        if fault:
            log.warning("the state after update %d is left out: %s", record.update, fault)
            return None
        self._before = record.stretches
        log.info("going on after update %d, from %s", record.update, state.folder)
        return Progress(
            update=record.update,
            stopped=record.stopped,
            points=record.points,
            kept={int(update): kept for update, kept in record.kept.items()},
            spent=record.spent,
        )

    def keep_point(self, point: Point) -> Point:
        """As `Keeper`: one that an earlier try measured alike keeps the time that it had."""
        try:
            return write_point(self._storage, self._keeping.of.trial, point)
        except OSError as error:
            self._tell(point.update, f"the point of update {point.update} cannot be written: {error}")
            return point

    def after_update(self, engine: Any, update: int, progress: Callable[[], Progress]) -> None:
        """As `Keeper`."""
        every = self._keeping.every
        is_due = every is not None and update % every == 0
        is_noticed = False
        if update >= self._next_look:
            asked, is_noticed = self._look(engine, update)
            is_due = is_due or asked
        if is_due or is_noticed:
            self._save(engine, progress())
        if is_noticed:
            raise TrialInterrupted(update, is_kept=self._wait(engine))

    def before_export(self, engine: Any, progress: Callable[[], Progress]) -> None:
        """As `Keeper`: a state, so that an export that fails costs no training, where there is much to lose."""
        lost = time.monotonic() - self._saved
        if self._keeping.seconds is None and self._keeping.every is None:
            return
        if from_rank_0(lambda: lost >= WORTH_SECONDS):
            self._save(engine, progress())

    def tell_trouble(self, update: int, trouble: str) -> None:
        """As `Keeper`."""
        self._tell(update, trouble)

    def end(self) -> None:
        """As `Keeper`: nothing is written any more."""
        writing, self._has_ended = self._writing, True
        if writing is not None and writing.thread is not None:
            writing.given_up.set()
            writing.thread.join()

    def _look(self, engine: Any, update: int) -> tuple[bool, bool]:
        """Whether a state is due by the clock, and whether the training is to be interrupted: rank 0 says so to all."""
        told, failed = [0, 0, 0], int(self._writing is not None and bool(self._writing.error))
        if dist.get_rank() == 0:
            passed, seconds = time.monotonic() - self._looked, self._keeping.seconds
            per_update = max(passed, 1e-6) / max(1, update - self._looked_at)
            is_free = self._writing is None or self._writing.is_over
            if seconds is not None and is_free:
                # A state costs a hundredth of the time at most, however large it is.
                between = max(seconds, self._stood_still / SHARE_OF_STATES)
                told[0] = int(time.monotonic() - self._saved >= between)
            told[1] = int(self._is_noticed())
            told[2] = max(1, min(_MOST_UPDATES_BETWEEN, round(LOOK_SECONDS / per_update)))
        numbers = torch.tensor([*told, failed], device=engine.device)
        if dist.get_world_size() > 1:
            dist.all_reduce(numbers)
        is_due, is_noticed, gap, num_failed = numbers.tolist()
        if num_failed and self._writing is not None:
            self._writing.given_up.set()
        self._looked_at, self._looked, self._next_look = update, time.monotonic(), update + gap
        return bool(is_due), bool(is_noticed)

    def _save(self, engine: Any, progress: Progress) -> None:
        """Copy this rank's part and have it written by a thread, which an earlier one is waited for."""
        if progress.update == self._saved_at:
            return
        begin = time.monotonic()
        if self._writing is not None:
            self._wait(engine)
        self._saved_at, self._saved = progress.update, time.monotonic()
        taken = take_state(engine)
        self._stood_still = time.monotonic() - begin
        writing = _Writing(progress.update)
        work = (writing, taken, progress)
        writing.thread = threading.Thread(target=self._write, args=work, name="state", daemon=True)
        self._writing = writing
        writing.thread.start()

    def _write(self, writing: _Writing, taken: dict[str, torch.Tensor], progress: Progress) -> None:
        rank, world = dist.get_rank(), dist.get_world_size()
        keeping = self._keeping
        folder = new_state_folder(self._storage, keeping.of.trial, progress.update, keeping.token)
        try:
            files = [f"rank-{each}-of-{world}.safetensors" for each in range(world)]
            begin = time.monotonic()
            part = _written(taken, folder / files[rank])
            taken.clear()
            write_part(folder, part)
            log.info(
                "the state after update %d, %.1f MB, written in %.2f s",
                progress.update,
                part.bytes / 1e6,
                time.monotonic() - begin,
            )
            writing.own_written.set()
            if rank == 0:
                parts = self._all_parts(folder, files, writing)
                if parts is not None and not self._may_write():
                    writing.error = "others have taken this trial over"
                elif parts is not None:
                    publish_state(folder, self._record(progress, parts))
                    self._tell(progress.update, "")
        except Exception as error:  # noqa: BLE001 - a thread's boundary: whatever it is, there is no state
            writing.error = f"the state after update {progress.update} cannot be written: {error}"
            log.warning("%s", writing.error)
            if rank == 0:
                if self._may_write():
                    remove_superseded(folder.parent)  # what is half written takes room
                self._tell(progress.update, writing.error)
        finally:
            writing.own_written.set()

    def _all_parts(self, folder: Path, files: list[str], writing: _Writing) -> tuple[StatePart, ...] | None:
        """The parts of all ranks once they are written; None when it is given up."""
        parts: dict[str, StatePart] = {}
        while len(parts) < len(files):
            for file in files:
                if file not in parts and (part := read_part(folder, file)) is not None:
                    parts[file] = part
            if len(parts) < len(files) and writing.given_up.wait(_POLL_SECONDS):
                writing.error = f"the state after update {writing.update} was not written by every worker"
                if not self._has_ended:
                    self._tell(writing.update, writing.error)
                return None
        return tuple(parts[file] for file in files)

    def _record(self, progress: Progress, parts: tuple[StatePart, ...]) -> StateRecord:
        return StateRecord(
            version=STATE_VERSION,
            of=self._keeping.of,
            update=progress.update,
            stopped=progress.stopped,
            edition=self._keeping.edition,
            launch=self._keeping.launch,
            parts=parts,
            points=progress.points,
            kept={str(update): kept for update, kept in progress.kept.items()},
            spent=progress.spent,
            stretches=(*self._before, self._now),
            saved_at=now(),
        )

    def _wait(self, engine: Any) -> bool:
        """Wait until the last state is whole, or cannot be; whether it is, on every rank alike."""
        writing = self._writing
        assert writing is not None and writing.thread is not None
        writing.own_written.wait()
        failed = torch.tensor(int(bool(writing.error)), device=engine.device)
        if dist.get_world_size() > 1:
            dist.all_reduce(failed)
        if failed.item():
            writing.given_up.set()
        if dist.get_rank() == 0:
            writing.thread.join(_PUBLISH_SECONDS)  # all parts are there now, and what is left takes no time
            writing.given_up.set()
            writing.thread.join()
        return bool(from_rank_0(lambda: not writing.error))


def _written(taken: dict[str, torch.Tensor], path: Path) -> StatePart:
    """Write a rank's part whole, to the disk itself."""
    write_state(taken, path)
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
    return StatePart(file=path.name, bytes=path.stat().st_size, sha256=file_digest(path))
