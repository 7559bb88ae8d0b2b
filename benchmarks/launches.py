"""What a launch costs beside its training: until its first update, at its end, between trials, in memory.

    python benchmarks/launches.py [--rounds 3] [--precision auto] [--quick]

The sweep is data_quantity at scale ci on the embedded model, in a storage that has of an earlier sweep the made model and
the cut text, but no rows, trials or measurements; the alternative is the stock pattern (stock.py) with as many trials of as
many updates on the same rows.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import tempfile
import time
from argparse import ArgumentParser
from datetime import datetime
from pathlib import Path
from typing import Any

import tiny
from results import HERE, Result, Target, arguments, tell
from tree import Cost, cost_of

SWEEP = HERE.parent / "sweeps" / "data_quantity.py"
BEFORE = ("preparing", "ray", "first_group", "first_update")


class Launched:
    """A launch of the sweep, done: what it cost, and what its record says.

    Looking at the memory of all its processes makes a long launch slower, by up to a fifth.
    """

    def __init__(self, storage: Path, options: list[str], *, with_memory: bool = True) -> None:
        began = time.time()
        self.cost: Cost = cost_of(
            [sys.executable, str(SWEEP), "--storage", str(storage), *options], with_memory=with_memory
        )
        if self.cost.status:
            raise SystemExit("\n".join(line for _, line in self.cost.output[-20:]))
        (file,) = (storage / "sweeps").glob("*/record.json")
        self.record: dict[str, Any] = json.loads(file.read_text())
        launch = self.record["launches"][-1]
        self.seconds: dict[str, float | None] = launch["seconds"]
        self.python_starts = datetime.fromisoformat(launch["started_at"]).timestamp() - began

    def sum_of(self, *parts: str) -> float:
        """Seconds of some of the launch's parts."""
        return sum(self.seconds[part] or 0.0 for part in parts)


def add_choices(parser: ArgumentParser) -> None:
    """What benchmarks of whole launches take."""
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--made", type=Path, help="a storage in which the model is made (default: make it)")


def made_storage(given: Path | None, folder: Path, options: list[str]) -> Path:
    """The storage in which the model is made: the given one, or one that a launch with these options makes."""
    if given is None:
        Launched(folder / "made", options)
    return given or folder / "made"


def fresh(folder: Path, made: Path) -> Path:
    """A storage that holds of another what its first sweep found: the made models, the cut text, what is known of files."""
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("models", "texts"):
        if (made / name).exists():
            shutil.copytree(made / name, folder / name)
            shutil.copy(made / "storage.json", folder)
    for file in made.glob("known-*.json"):
        shutil.copy(file, folder)
    return folder


def model_of(storage: Path, record: dict[str, Any]) -> Path:
    """The directory of the sweep's one model: made in its storage, or given."""
    made = [path.parent for path in (storage / "models").glob("*/config.json")]
    return made[0] if made else Path(record["options"]["model"][0])


def stock(storage: Path, record: dict[str, Any]) -> tuple[Cost, list[tuple[float, float]], float]:
    """The same number of trials, each of the sweep's mean number of updates, by the stock pattern."""
    trials = [json.loads((storage / "trials" / key / "record.json").read_text()) for key in record["trials"]]
    model = model_of(storage, record)
    rows = next((storage / "rows" / trials[-1]["rows"]["id"]).glob("*.parquet"))
    updates = sum(trial["num_updates"] for trial in trials) // len(trials)
    command = [sys.executable, str(HERE / "stock.py"), str(model), str(rows), "--trials", str(len(trials))]
    began = time.time()
    cost = cost_of(
        [*command, "--updates", str(updates), "--precision", trials[0]["precision"]], with_memory=True
    )
    if cost.status:
        raise SystemExit("\n".join(line for _, line in cost.output[-20:]))
    return cost, json.loads(cost.output[-1][1]), began


def measure(folder: Path, made: Path, rounds: int, options: list[str]) -> list[Result]:
    """All rows, each launch beside the stock pattern in its round; the model is in the storage `made`, or is given."""
    found = [one_round(folder, made, options) for _ in range(rounds)]
    ours = {key: [value for own, _ in found for value in own[key]] for key in found[0][0]}
    theirs = {key: [value for _, other in found for value in other[key]] for key in found[0][1]}

    def row(what: str, key: str, unit: str, at_most: float | None = None) -> Result:
        peer = theirs.get(key)
        return Result(
            what,
            statistics.median(ours[key]),
            unit,
            "stock pattern" if peer else "",
            statistics.median(peer) if peer else None,
            None if at_most is None else Target("at most", at_most),
            tuple(ours[key]),
        )

    rows = [
        *plan_and_help(folder),
        row("launch with everything finished", "again", "s", 3.0),
        row("from the command to the first update", "first", "s", 10.0),
        row("all of a launch but training and measuring", "rest", "s", 12.0),
        row("a launch's CPU time, of all processes", "cpu", "CPU s"),
        row("peak memory, all processes' proportional set sizes", "memory", "GiB", 4.0),
    ]
    if ours["between"]:
        rows.append(row("between two trials of a group", "between", "s", 0.2))
    return rows


def one_round(
    folder: Path, made: Path, options: list[str]
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """A launch, the same again, and the stock pattern: what was measured of ours and of theirs."""
    storage = fresh(folder / "runs", made)
    launch = Launched(storage, options)
    again = Launched(storage, options)
    cost, spans, began = stock(storage, launch.record)
    busy = max(end for _, end in spans) - min(begin for begin, _ in spans)
    ours = {
        "first": [launch.python_starts + launch.sum_of(*BEFORE)],
        "rest": [launch.cost.seconds - launch.sum_of("training", "measuring")],
        "memory": [launch.cost.peak_kib / 2**20],
        "cpu": [launch.cost.cpu_seconds],
        "between": between_trials(storage, launch.record),
        "again": [again.cost.seconds],
    }
    theirs = {
        "first": [min(begin for begin, _ in spans) - began],
        "rest": [cost.seconds - busy],
        "memory": [cost.peak_kib / 2**20],
        "cpu": [cost.cpu_seconds],
        "between": gaps(spans),
    }
    return ours, theirs


def plan_and_help(folder: Path) -> list[Result]:
    """The commands that start nothing, each the least of three runs, beside what a plan must import."""

    def seconds(*words: str) -> float:
        return min(cost_of([sys.executable, *words]).seconds for _ in range(3))

    imports = seconds("-c", "import numpy, polars")
    plan = seconds(str(SWEEP), "--plan", "--storage", str(folder / "none"))
    helped = seconds(str(SWEEP), "--help")
    return [
        Result("`--plan`", plan, "s", "importing numpy and polars", imports, Target("at most", 3.0, "ratio")),
        Result("`--help`", helped, "s", target=Target("at most", imports + 0.3)),
    ]


def between_trials(storage: Path, record: dict[str, Any]) -> list[float]:
    """What groups took between one trial's end and the next one's beginning."""
    trials = [json.loads((storage / "trials" / key / "record.json").read_text()) for key in record["trials"]]
    return [trial["overhead_seconds"] for trial in trials if trial["overhead_seconds"] is not None]


def gaps(spans: list[tuple[float, float]]) -> list[float]:
    """From each trial's last update to the first one of the next that began after it, in the order of ends."""
    begins = sorted(begin for begin, _ in spans)
    found = []
    for end in sorted(end for _, end in spans):
        later = [begin for begin in begins if begin > end]
        if later:
            found.append(later[0] - end)
            begins.remove(later[0])
    return found


def main() -> None:
    """Measure and tell."""
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    add_choices(parser)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if given.quick:
            tell("Launches", measure(folder, folder / "made", 1, tiny.options(folder)), keep=False)
            return
        options = ["--scale", "ci", "--precision", given.precision]
        made = made_storage(given.made, folder, options)
        tell("Launches", measure(folder, made, given.rounds, options), keep=True)


if __name__ == "__main__":
    main()
