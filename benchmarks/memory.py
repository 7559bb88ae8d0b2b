"""The peak of memory of the main job: the sum of proportional set sizes of everything it starts.

    python benchmarks/memory.py [options of sweeps/data_quantity.py]

Runs the sweep in a fresh storage, unless --storage is given.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tree import cost_of

SCRIPT = Path(__file__).resolve().parent.parent / "sweeps" / "data_quantity.py"
LIMIT_GIB = 6.0


def main() -> int:
    """Run, sample, print; status 1 when the sweep failed or the peak is above the limit."""
    arguments = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        if "--storage" not in arguments:
            arguments += ["--storage", f"{folder}/runs"]
        cost = cost_of([sys.executable, str(SCRIPT), *arguments], with_memory=True)
    print(f"{cost.seconds:.0f} s, exit status {cost.status}")
    print(f"peak of proportional set sizes: {cost.peak_kib / 2**20:.2f} GiB (limit {LIMIT_GIB:g})")
    for process in sorted(cost.processes, key=lambda each: each.peak_kib, reverse=True)[:12]:
        print(f"  {process.peak_kib / 2**10:8.0f} MiB at most  {process.title[:100]}")
    return int(cost.status != 0 or cost.peak_kib / 2**20 > LIMIT_GIB)


if __name__ == "__main__":
    sys.exit(main())
