"""A thousand trials: planning them, going on with the last ten, and what each costs beside its training.

    python benchmarks/many_trials.py [--trials 1000] [--quick]

The model is a tiny Llama with random weights, each trial one update on eight rows, so that what is measured is the sweep
itself. Trials and their measurements are real ones; for the last launch ten of the trials are deleted.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from launches import BEFORE, SWEEP, Launched
from results import Result, Target, arguments, tell
from tiny import options


def seeds(count: int) -> list[str]:
    """As many trials as seeds."""
    return ["--seeds", ",".join(map(str, range(count)))]


def driver_and_tune(launch: Launched) -> float:
    """CPU seconds of the driver, which makes rows and tells MLflow, of the queue and of Tune's trials."""
    named = ("data_quantity.py", "TrialQueue", "ImplicitFunc", "trial_function")
    return sum(
        process.cpu_seconds
        for process in launch.cost.processes
        if any(name in process.title for name in named) and "Evaluator" not in process.title
    )


def planned(storage: Path, words: list[str]) -> float:
    """Seconds of a command that only plans."""
    begin = time.perf_counter()
    subprocess.run(
        [sys.executable, str(SWEEP), "--plan", "--storage", str(storage), *words],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return time.perf_counter() - begin


def measure(num_trials: int, few_trials: int) -> list[Result]:
    """Few trials, many trials, and the last few of them again."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tiny = options(folder)
        few = Launched(folder / "few", [*tiny, *seeds(few_trials)])
        words = [*tiny, *seeds(num_trials)]
        seconds = planned(folder / "many", words)
        many = Launched(folder / "many", words)
        for key in many.record["trials"][-few_trials:]:
            shutil.rmtree(folder / "many" / "trials" / key)
        last = Launched(folder / "many", words)
    return [
        Result(f"plan of {num_trials:,} trials", seconds, "s", target=Target("at most", 5.0)),
        Result(
            f"launch with {num_trials - few_trials:,} of them finished: until the first of the others trains",
            last.python_starts + last.sum_of(*BEFORE),
            "s",
            target=Target("at most", 15.0),
        ),
        Result(
            f"driver, queue and Tune, of each of {num_trials:,} trials",
            driver_and_tune(many) / num_trials,
            "CPU s",
            f"of each of {few_trials}",
            driver_and_tune(few) / few_trials,
            Target("at most", 1.5, "ratio"),
        ),
        Result(f"whole launch of {num_trials:,} trials of one update", many.cost.seconds, "s"),
        Result("peak memory of it", many.cost.peak_kib / 2**20, "GiB"),
    ]


def main() -> None:
    """Measure and tell."""
    parser = arguments(__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    given = parser.parse_args()
    tell("Many trials", measure(*((4, 2) if given.quick else (given.trials, 10))), keep=not given.quick)


if __name__ == "__main__":
    main()
