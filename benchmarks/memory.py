"""The peak of memory of the main job: the sum of proportional set sizes of everything it starts.

    python benchmarks/memory.py [options of sweeps/data_quantity.py]

Runs the sweep in a fresh storage (unless --storage is given) and samples /proc twice a second. A proportional set
size counts shared pages once, divided among the processes that share them; Ray's object store is part of it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

SCRIPT = Path(__file__).resolve().parent.parent / "sweeps" / "data_quantity.py"
LIMIT_GIB = 6.0


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


def proportional_kib(pid: int) -> tuple[str, int]:
    """(name, proportional set size in KiB) of one process; 0 when it has just ended."""
    try:
        name = Path(f"/proc/{pid}/comm").read_text().strip()
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return "", 0
    return name, sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def main() -> int:
    """Run, sample, print; status 1 when the sweep failed or the peak is above the limit."""
    arguments = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        if "--storage" not in arguments:
            arguments += ["--storage", f"{folder}/runs"]
        process = subprocess.Popen([sys.executable, str(SCRIPT), *arguments], stdout=subprocess.DEVNULL)
        peak, at_peak, begin = 0, Counter[str](), time.monotonic()
        while process.poll() is None:
            sizes = Counter[str]()
            for pid in descendants(process.pid):
                name, kib = proportional_kib(pid)
                sizes[name] += kib
            if sizes.total() > peak:
                peak, at_peak = sizes.total(), sizes
            time.sleep(0.5)
    print(f"{time.monotonic() - begin:.0f} s, exit status {process.returncode}")
    print(f"peak of proportional set sizes: {peak / 2**20:.2f} GiB (limit {LIMIT_GIB:g})")
    for name, kib in at_peak.most_common(12):
        print(f"  {kib / 2**10:8.0f} MiB  {name}")
    return int(process.returncode != 0 or peak / 2**20 > LIMIT_GIB)


if __name__ == "__main__":
    sys.exit(main())
