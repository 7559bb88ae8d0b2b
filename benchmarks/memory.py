"""The quickstart's sweep, its model made: how long it takes, and the memory of everything that it starts.

    python benchmarks/memory.py [--precision auto] [--made STORAGE] [--quick]

The alternative is the stock pattern (stock.py) with as many trials of the same number of updates in all, which measures
nothing; of what it takes, memory alone is told. Memory is the highest sum of all processes' proportional set sizes.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import tiny
from launches import Launched, add_choices, fresh, made_storage, stock
from results import Result, Target, arguments, tell


def measure(folder: Path, made: Path, options: list[str]) -> list[Result]:
    """The sweep, then the alternative on its rows."""
    storage = fresh(folder / "runs", made)
    launch = Launched(storage, options)
    theirs, *_ = stock(storage, launch.record)
    trials = len(launch.record["trials"])
    return [
        Result(
            f"peak memory of a sweep of {trials} trials",
            launch.cost.peak_kib / 2**20,
            "GiB",
            "stock pattern",
            theirs.peak_kib / 2**20,
            Target("at most", 4.0),
        ),
        Result(f"a sweep of {trials} trials, its model made", launch.cost.seconds, "s"),
        Result("CPU time of all its processes", launch.cost.cpu_seconds, "CPU s"),
    ]


def main() -> None:
    """Measure and tell."""
    parser = arguments(__doc__)
    add_choices(parser)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if given.quick:
            tell("Memory", measure(folder, folder / "made", tiny.options(folder)), keep=False)
            return
        options = ["--precision", given.precision]
        few = ["--arms", "constant updates", "--samples", "8", "--num-updates", "1"]
        made = made_storage(given.made, folder, [*options, *few])
        tell("Memory", measure(folder, made, options), keep=True)


if __name__ == "__main__":
    main()
