"""What a command and everything it starts cost: wall time, and of each process its CPU seconds and its memory.

    python benchmarks/tree.py COMMAND [ARGUMENTS ...]

Samples /proc. A proportional set size counts shared pages once, divided among the processes that share them; Ray's
object store is part of it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")
_EVERY_SECONDS = 0.25  # more often, watching would take a fifth of a core
_MEMORY_SECONDS = 2.0


@dataclass
class Process:
    """One process of a tree. `begin` and `end` in seconds since the command began; `peak_kib`: proportional set size."""

    pid: int
    begin: float
    end: float = 0.0
    cpu_seconds: float = 0.0
    peak_kib: int = 0
    titles: list[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        """What it was called, idle or not: Ray's workers have the name of what they run."""
        told = [title for title in self.titles if not title.startswith("ray::IDLE")]
        return " | ".join(told or self.titles)


@dataclass(frozen=True)
class Cost:
    """What a command cost. `peak_kib`: the highest sum of all proportional set sizes."""

    status: int
    seconds: float
    peak_kib: int
    processes: tuple[Process, ...]
    output: tuple[tuple[float, str], ...]

    @property
    def cpu_seconds(self) -> float:
        """User and system time of all processes."""
        return sum(process.cpu_seconds for process in self.processes)


def cost_of(command: Sequence[str], *, with_memory: bool = False) -> Cost:
    """Run a command and watch its tree; `output`: its lines with the seconds at which they came."""
    begin = time.monotonic()
    root = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert root.stdout is not None
    os.set_blocking(root.stdout.fileno(), False)
    seen: dict[int, Process] = {}
    said: list[tuple[float, str]] = []
    peak, measured, rest = 0, 0.0, b""
    while True:
        ended = root.poll() is not None
        now = time.monotonic() - begin
        rest += root.stdout.read() or b""
        *lines, rest = rest.split(b"\n")
        said += [(now, line.decode(errors="replace")) for line in lines]
        there = descendants(root.pid)
        for pid in there:
            _look(seen.setdefault(pid, Process(pid, now)), now)
        if with_memory and now - measured > _MEMORY_SECONDS:
            measured = now
            sizes = {pid: proportional_kib(pid) for pid in there}
            peak = max(peak, sum(sizes.values()))
            for pid, kib in sizes.items():
                seen[pid].peak_kib = max(seen[pid].peak_kib, kib)
        if ended:
            break
        time.sleep(_EVERY_SECONDS)
    seconds = time.monotonic() - begin
    return Cost(root.returncode, seconds, peak, tuple(seen.values()), tuple(said))


def descendants(pid: int) -> list[int]:
    """A process and all that came from it and still has it as an ancestor."""
    found, waiting = [], [pid]
    while waiting:
        current = waiting.pop()
        found.append(current)
        for children in Path(f"/proc/{current}/task").glob("*/children"):
            try:
                waiting.extend(int(child) for child in children.read_text().split())
            except OSError:
                continue
    return found


def proportional_kib(pid: int) -> int:
    """The proportional set size of one process in KiB; 0 when it has just ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def _look(process: Process, now: float) -> None:
    try:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        title = Path(f"/proc/{process.pid}/cmdline").read_text().replace("\0", " ").strip()
    except OSError:
        return
    process.cpu_seconds = (int(fields[11]) + int(fields[12])) / _TICK
    process.end = now
    short = _short(title)
    if short and short not in process.titles:
        process.titles.append(short)


def _short(title: str) -> str:
    if title.startswith("ray::"):
        return title
    words = title.split()
    if words and "python" in Path(words[0]).name and len(words) > 1:
        return "python " + " ".join(Path(word).name for word in words[1:3])
    return Path(words[0]).name if words else ""


def main() -> int:
    """Run the command, print what it said and what its processes cost."""
    cost = cost_of(sys.argv[1:], with_memory=True)
    for seconds, line in cost.output:
        print(f"{seconds:7.2f}  {line}")
    print(f"{cost.seconds:.1f} s, {cost.cpu_seconds:.1f} CPU s, peak {cost.peak_kib / 2**20:.2f} GiB")
    for process in sorted(cost.processes, key=lambda each: each.begin):
        if process.cpu_seconds >= 0.2:
            print(
                f"{process.begin:7.2f} {process.end:7.2f} {process.cpu_seconds:7.2f} CPU s "
                f"{process.peak_kib / 2**10:6.0f} MiB  {process.title[:110]}"
            )
    return cost.status


if __name__ == "__main__":
    sys.exit(main())
