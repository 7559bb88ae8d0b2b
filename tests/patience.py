"""Waiting that tells what hangs from what is slow: it ends when nothing has moved for a while, however long it takes."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

# Longer than anything works without a sign, also on a slow and busy machine: importing, compiling, one measurement.
SECONDS_WITHOUT_A_SIGN = 300.0
_LOOK_EVERY = 5.0

T = TypeVar("T")


def wait_for(found: Callable[[], T], what: str, signs: Callable[[], object], *, every: float = 0.2) -> T:
    """The first true value of `found`; fails when `signs` has stayed the same for a long time."""
    last, moved_at = signs(), time.monotonic()
    looked_at = moved_at
    while True:
        if value := found():
            return value
        now = time.monotonic()
        if now - looked_at >= _LOOK_EVERY:
            looked_at, current = now, signs()
            if current != last:
                last, moved_at = current, now
            assert now - moved_at < SECONDS_WITHOUT_A_SIGN, (
                f"{what} did not come, and nothing has moved for {SECONDS_WITHOUT_A_SIGN:g} s"
            )
        time.sleep(every)


def files_of(folder: Path | None) -> tuple[int, int]:
    """How many files there are below a folder, and when the last of them changed."""
    if folder is None:
        return 0, 0
    times = []
    for path in folder.rglob("*"):
        try:
            times.append(path.stat().st_mtime_ns)
        except OSError:  # gone meanwhile
            continue
    return len(times), max(times, default=0)


def cpu_seconds(pids: Iterable[int]) -> int:
    """CPU time that processes have used so far, in whole seconds; of those that are gone, none."""
    ticks = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += int(fields[11]) + int(fields[12])
    return ticks // 100


def finish(process: subprocess.Popen[str], storage: Path | None = None) -> str:
    """What a process prints until its end, whose signs are its lines and the files of `storage`; ended if it hangs."""
    lines: list[str] = []

    def read() -> None:
        with process.stdout as stream:
            for line in stream:
                lines.append(line)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        wait_for(
            lambda: not reader.is_alive() and process.poll() is not None,
            f"the end of {process.args}",
            lambda: (len(lines), files_of(storage)),
        )
    except AssertionError as error:
        process.terminate()
        raise AssertionError(f"{error}\n{''.join(lines)}") from error
    return "".join(lines)
