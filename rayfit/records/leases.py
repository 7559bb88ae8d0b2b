"""Who may write what: a lease of a sweep by the launch that runs it, and of a trial by the workers that train it.

A lease is a file with a number, created only where there is none of that number, and renewed by its holder. One that was
not renewed for a minute, or whose process is gone from this machine, can be taken over under the next number; its holder,
should it live on, sees that before it writes what counts. No file is locked, appended to or renamed for others to see.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from rayfit.errors import RayfitError
from rayfit.records.codec import dumps, encode, read_record
from rayfit.records.provenance import now
from rayfit.records.storage import Storage, write_json
from rayfit.records.values import Value

RENEW_SECONDS = 10.0
TAKE_OVER_SECONDS = 60.0
LEASES = "leases"


class Lease(Value, frozen=True, kw_only=True):
    """Who holds something: a process of a machine, on behalf of a launch (`launch`), since when.

    `machine` tells machines and containers apart, `began` processes of the same number. `renewed`: seconds since 1970.
    """

    number: int
    token: str
    launch: str
    host: str
    machine: str
    process: int
    began: str
    since: str
    renewed: float

    @property
    def holder(self) -> str:
        """The holder in words."""
        return f"process {self.process} on {self.host} since {self.since[:19]}"

    @property
    def is_living(self) -> bool:
        """Whether its holder is there. Of this machine it is known at once that a process is gone."""
        if self.machine == _machine() and _began(self.process) != self.began:
            return False
        return time.time() - self.renewed < TAKE_OVER_SECONDS


class Holding:
    """A lease that this process holds and renews, in a thread, until it is released."""

    def __init__(self, folder: Path, lease: Lease) -> None:
        """As `take` makes it."""
        self._folder, self._lease, self._is_lost = folder, lease, False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()

    @property
    def is_held(self) -> bool:
        """Whether nobody has taken it over; to be asked before something is written that counts."""
        newest = _newest(self._folder)
        # Once lost it stays so, whatever a write that hung brings back.
        self._is_lost = self._is_lost or newest is None or newest.token != self._lease.token
        return not self._is_lost

    def release(self) -> None:
        """Give it back; what somebody else has taken over stays theirs."""
        self._over.set()
        self._thread.join()
        if self.is_held:
            _path(self._folder, self._lease.number).unlink(missing_ok=True)

    def _renew(self) -> None:
        while not self._over.wait(RENEW_SECONDS):
            path = _path(self._folder, self._lease.number)
            try:
                if not self.is_held:
                    return
                write_json(path, {**encode(self._lease), "renewed": time.time()})
            except OSError:
                with suppress(OSError):
                    os.utime(
                        path
                    )  # which a full disk has room for; one that does not answer may the next time


def take(storage: Storage, what: str, launch: str, *, from_same_launch: bool = False) -> Holding | Lease:
    """Take the lease of something, or return the one that somebody holds.

    `from_same_launch`: one that this launch holds is taken over, for it knows itself who works for it. Raises OSError
    where the storage cannot be written.
    """
    folder = storage.root / LEASES / what
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        newest = _newest(folder)
        if newest is not None and newest.is_living and not (from_same_launch and newest.launch == launch):
            return newest
        lease = _lease(1 if newest is None else newest.number + 1, launch)
        if _created(_path(folder, lease.number), dumps(encode(lease))):
            found = _newest(folder)
            if found is None or found.token != lease.token:
                continue  # others were quicker, or the folder was listed from an old cache
            for number in _numbers(folder):
                if number < lease.number:
                    _path(folder, number).unlink(missing_ok=True)
            return Holding(folder, lease)


def held_by(storage: Storage, what: str) -> Lease | None:
    """The living lease of something, or None."""
    newest = _newest(storage.root / LEASES / what)
    return newest if newest is not None and newest.is_living else None


def sweep_lease(sweep_id: str) -> str:
    """What a launch of a sweep holds."""
    return f"sweep-{sweep_id}"


def trial_lease(trial_id: str) -> str:
    """What the workers hold that train a trial."""
    return f"trial-{trial_id}"


def _lease(number: int, launch: str) -> Lease:
    return Lease(
        number=number,
        token=secrets.token_hex(8),
        launch=launch,
        host=socket.gethostname(),
        machine=_machine(),
        process=os.getpid(),
        began=_began(os.getpid()),
        since=now(),
        renewed=time.time(),
    )


def _created(path: Path, text: str) -> bool:
    """Create a file that is not there; False where it is."""
    try:
        stream = path.open("x", encoding="utf-8")
    except FileExistsError:
        return False
    try:
        with stream:
            stream.write(text + "\n")
            stream.flush()
            os.fsync(stream.fileno())
    except OSError:
        path.unlink(missing_ok=True)  # an empty one, on a full disk, would take it from who holds it
        raise
    return True


def _newest(folder: Path) -> Lease | None:
    numbers = _numbers(folder)
    if not numbers:
        return None
    path = _path(folder, numbers[-1])
    try:
        lease, renewed = read_record(path, Lease), path.stat().st_mtime
        return None if lease is None else msgspec.structs.replace(lease, renewed=max(lease.renewed, renewed))
    except FileNotFoundError:
        return None
    except RayfitError:
        # Being written: held, unless it stays so.
        try:
            renewed = path.stat().st_mtime
        except FileNotFoundError:
            return None
        return Lease(
            number=numbers[-1],
            token="",
            launch="",
            host="an unknown machine",
            machine="",
            process=0,
            began="",
            since="",
            renewed=renewed,
        )


def _numbers(folder: Path) -> list[int]:
    return sorted(int(path.stem) for path in folder.glob("[0-9]*.json"))


def _path(folder: Path, number: int) -> Path:
    return folder / f"{number}.json"


def _machine() -> str:
    """What tells this machine, this start of it and this container from others."""
    return (
        f"{socket.gethostname()} {_read(lambda: Path('/proc/sys/kernel/random/boot_id').read_text().strip())} "
        + _read(lambda: os.readlink("/proc/self/ns/pid"))
    )


def _began(process: int) -> str:
    """When a process of this machine began, in the kernel's own count; empty for one that is not there."""

    def begun() -> str:
        # The name, in parentheses, may hold spaces.
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]

    return _read(begun)


def _read(read: Callable[[], str]) -> str:
    try:
        return read()
    except (OSError, IndexError):
        return ""
