"""Keeping the state of a training while it runs, and going on from it: when, by whom, and that it is whole."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec
import torch
import torch.distributed as dist

from rayfit.errors import TrialInterrupted
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
    states_of,
    write_point,
)
from rayfit.records.storage import Storage
from rayfit.records.trial import Point, Stretch
from rayfit.train.state import load_state, take_state
from rayfit.train.together import from_all, from_rank_0
from rayfit.train.writing import StateWriting

# About how often the ranks agree on whether a state is to be saved; a notice waits so long, and for one update.
LOOK_SECONDS = 1.0
_MOST_UPDATES_BETWEEN = 1_000
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
        self._writing: StateWriting | None = None
        self._next_look = 0
        self._looked_at, self._looked = 0, time.monotonic()
        self._saved_at, self._saved = -1, time.monotonic()
        self._begun_at, self._stood_still = 0, 0.0

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
            assert self._writing is not None  # of this update
            raise TrialInterrupted(update, is_kept=self._writing.wait(engine.device))

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
        if self._writing is not None:
            self._writing.end()

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
            self._writing.give_up()
        self._looked_at, self._looked, self._next_look = update, time.monotonic(), update + gap
        return bool(is_due), bool(is_noticed)

    def _save(self, engine: Any, progress: Progress) -> None:
        """Copy this rank's part and have it written by a thread, for which an earlier one is waited for."""
        if progress.update == self._saved_at:
            return
        begin = time.monotonic()
        if self._writing is not None:
            self._writing.wait(engine.device)
        keeping = self._keeping
        self._saved_at, self._saved = progress.update, time.monotonic()
        self._writing = StateWriting(
            new_state_folder(self._storage, keeping.of.trial, progress.update, keeping.token),
            progress.update,
            take_state(engine),
            lambda parts: self._record(progress, parts),
            tell=self._tell,
            may_write=self._may_write,
        )
        self._stood_still = time.monotonic() - begin

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
