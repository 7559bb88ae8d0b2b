"""A whole sweep beside its trainings done one after another in one process, and beside their updates alone.

    python benchmarks/whole_sweep.py [--trials 8] [--updates 350] [--precision auto] [--quick]

Seeds of one arm on the embedded model with default options: training, measuring, generating, scoring, report and MLflow are
in the sweep's time; the model is made before. The alternative does the trainings alone, with their measurements and exports,
without Ray, on all cores. The updates alone are run by one process for each core, each with one thread and its share.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import tiny
from launches import Launched, add_choices, fresh, made_storage, model_of
from results import Result, Target, arguments, tell

ENVIRONMENT = {
    "RANK": "0",
    "LOCAL_RANK": "0",
    "WORLD_SIZE": "1",
    "MASTER_ADDR": "127.0.0.1",
    "DS_ACCELERATOR": "cpu",
}


def built(storage: Path, keys: list[str], num_threads: int) -> tuple[Any, list[Any]]:
    """An engine, and what each of the trials asks of it, in this process."""
    import polars as pl
    import torch

    from rayfit.allocator import keep_freed_memory
    from rayfit.data.rows import token_matrix
    from rayfit.plan.deepspeed import deepspeed_config
    from rayfit.plan.trials import CURVE_ROWS, curve_updates
    from rayfit.records.storage import Storage
    from rayfit.train.engine import build_engine, start_process_group
    from rayfit.train.loop import TrainTask
    from rayfit.train.schedule import Schedule

    torch.set_num_threads(num_threads)
    keep_freed_memory()
    start_process_group()
    kept = Storage(storage)
    records = [record for key in keys if (record := kept.trial(key)) is not None]
    (sweep,) = (storage / "sweeps").glob("*/record.json")
    model = model_of(storage, json.loads(sweep.read_text()))
    validation = next((storage / "rows").glob("*/validation.parquet"))
    tasks = [
        TrainTask(
            schedule=Schedule(
                batch_size=record.batch_size,
                num_updates=record.num_updates,
                learning_rate=record.learning_rate,
                order_seed=record.order_seed,
                model_path=model,
                export_dtype="fp32",
            ),
            train_ids=token_matrix(pl.read_parquet(storage / "rows" / record.rows.id / "rows.parquet")),
            validation_ids=token_matrix(pl.read_parquet(validation).head(CURVE_ROWS)),
            measured_updates=tuple(curve_updates(record.num_updates, record.batch_size, None)),
            checkpoint_path=storage / "again" / record.id,
        )
        for record in records
    ]
    config = deepspeed_config(
        zero_stage=records[0].placement.zero_stage,
        precision=records[0].precision,
        batch_size=records[0].batch_size,
        num_workers=1,
    )
    return build_engine(model, config), tasks


def trained(storage: Path, keys: list[str]) -> None:
    """The trials one after another, on all cores; their weights must be the sweep's, to the bit."""
    from rayfit.records.storage import Storage
    from rayfit.train.loop import train_trial
    from rayfit.train.reset import take_snapshot

    begin = time.perf_counter()
    engine, tasks = built(storage, keys, len(os.sched_getaffinity(0)))
    snapshot = take_snapshot(engine)
    digests = [train_trial(engine, snapshot, task, lambda _: None).weights_sha256 for task in tasks]
    print(time.perf_counter() - begin)
    expected = [record.weights_sha256 for key in keys if (record := Storage(storage).trial(key))]
    if digests != expected:
        raise SystemExit("benchmark: the trainings gave other weights than the sweep")


def updated(storage: Path, keys: list[str]) -> None:
    """The trials' updates alone, on one thread."""
    from rayfit.train.loop import BatchLosses, run_update

    engine, tasks = built(storage, keys, 1)
    begin = time.perf_counter()
    for task in tasks:
        losses = BatchLosses(task.schedule.num_updates)
        for update in range(1, task.schedule.num_updates + 1):
            run_update(engine, task, update, losses, wants_norm=False)
    print(time.perf_counter() - begin)


def apart(arm: str, storage: Path, shares: list[list[str]]) -> float:
    """An arm in a process for each share of the trials, all at once; the longest one's seconds."""
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, "--arm", arm, str(storage), *share],
            env={**os.environ, **ENVIRONMENT, "MASTER_PORT": str(29650 + place)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for place, share in enumerate(shares)
    ]
    outputs = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        raise SystemExit(f"benchmark: {arm} failed")
    return max(float(output.strip().splitlines()[-1]) for output in outputs)


def measure(folder: Path, made: Path, num_trials: int, updates: int, options: list[str]) -> list[Result]:
    """The sweep, then both alternatives on its rows."""
    seeds = ",".join(map(str, range(num_trials)))
    grid = ["--arms", "constant updates", "--samples", "32", "--seeds", seeds, "--num-updates", str(updates)]
    storage = fresh(folder / "runs", made)
    launch = Launched(storage, [*options, *grid], with_memory=False)
    keys, cores = list(launch.record["trials"]), len(os.sched_getaffinity(0))
    trainings = apart("trained", storage, [keys])
    alone = apart("updated", storage, [share for i in range(cores) if (share := keys[i::cores])])
    trials = [json.loads((storage / "trials" / key / "record.json").read_text()) for key in keys]
    between = [each["overhead_seconds"] for each in trials if each["overhead_seconds"] is not None]
    what = f"whole sweep of {num_trials} trials of {updates} updates"
    return [
        Result(
            what,
            launch.cost.seconds,
            "s",
            "the trainings one after another, all cores",
            trainings,
            Target("at most", 0.95, "ratio"),
        ),
        Result(
            what,
            launch.cost.seconds,
            "s",
            "the updates alone, over the cores",
            alone,
            Target("at most", 1.25, "ratio"),
        ),
        Result(
            f"between two trials, median of {len(between)}",
            statistics.median(between or [0.0]),
            "s",
            target=Target("at most", 0.2),
            runs=tuple(between),
        ),
    ]


def main() -> None:
    """Measure and tell."""
    if sys.argv[1:2] == ["--arm"]:
        arm, storage, *keys = sys.argv[2:]
        {"trained": trained, "updated": updated}[arm](Path(storage), keys)
        return
    parser = arguments(__doc__)
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--updates", type=int, default=350)
    add_choices(parser)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if given.quick:
            tell("Whole sweep", measure(folder, folder / "made", 3, 2, tiny.options(folder)), keep=False)
            return
        options = ["--precision", given.precision]
        few = ["--arms", "constant updates", "--samples", "8", "--num-updates", "1"]
        made = made_storage(given.made, folder, [*options, *few])
        tell("Whole sweep", measure(folder, made, given.trials, given.updates, options), keep=True)


if __name__ == "__main__":
    main()
