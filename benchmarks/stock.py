"""The stock pattern that a sweep is measured against: a plain Tune function around TorchTrainer with DeepSpeed, per trial.

    python benchmarks/stock.py MODEL ROWS --trials 4 --updates 48 [--precision bf16]

MODEL is a Hugging Face directory, ROWS a parquet file with a column `token_ids`. It trains, measures the loss on the first
rows at the end, saves the weights, and reports both, as the documentation of Ray Train and Tune shows; nothing else. What
it prints is the seconds at which each trial began its first update and ended, on the clock of time.time().
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any


def train(config: dict[str, Any]) -> None:
    """One worker of one trial."""
    import deepspeed
    import numpy as np
    import polars as pl
    import ray.train
    import torch
    from transformers import AutoModelForCausalLM

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(config["model"], dtype=torch.float32)
    bf16 = config["precision"] == "bf16"
    engine, *_ = deepspeed.initialize(
        model=model,
        model_parameters=model.parameters(),
        config={
            "train_micro_batch_size_per_gpu": 8,
            "optimizer": {"type": "Adam", "params": {"lr": 1e-3, "torch_adam": True}},
            "bf16": {"enabled": bf16},
            "zero_optimization": {"stage": 1 if bf16 else 0},
        },
    )
    rows = np.stack(pl.read_parquet(config["rows"])["token_ids"].to_list())
    begin = time.time()
    for update in range(config["updates"]):
        order = np.random.default_rng(config["seed"] + update).integers(0, len(rows), 8)
        batch = torch.from_numpy(rows[order])
        loss = engine(input_ids=batch, labels=batch).loss
        engine.backward(loss)
        engine.step()
    with torch.no_grad():
        batch = torch.from_numpy(rows[:8])
        measured = float(engine(input_ids=batch, labels=batch).loss)
    with tempfile.TemporaryDirectory() as folder:
        engine.module.save_pretrained(folder)
        checkpoint = ray.train.Checkpoint.from_directory(folder)
        ray.train.report({"loss": measured, "begin": begin, "end": time.time()}, checkpoint=checkpoint)


def trial(config: dict[str, Any]) -> None:
    """One trial: a Train run of its own."""
    import ray.train
    import ray.tune
    from ray.train.torch import TorchTrainer

    result = TorchTrainer(
        train,
        train_loop_config=config,
        scaling_config=ray.train.ScalingConfig(num_workers=1),
        run_config=ray.train.RunConfig(
            name=f"trial-{config['seed']}", storage_path=f"{config['storage']}/train"
        ),
    ).fit()
    assert result.metrics is not None
    ray.tune.report(dict(result.metrics))


def main() -> None:
    """Run the trials, as many at once as there are cores."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--trials", type=int, default=4)
    parser.add_argument("--updates", type=int, default=48)
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="fp32")
    given = parser.parse_args()
    os.environ["RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS"] = "0"
    import ray
    import ray.tune

    cores = len(
        os.sched_getaffinity(0)
    )  # Ray is told of twice as many: a trial's function takes one beside its worker's
    with tempfile.TemporaryDirectory() as folder:
        ray.init(address="local", num_cpus=2 * cores, log_to_driver=False, logging_level="error")
        config = {
            "model": str(given.model.resolve()),
            "rows": str(given.rows.resolve()),
            "updates": given.updates,
            "precision": given.precision,
            "storage": folder,
            "seed": ray.tune.grid_search(list(range(given.trials))),
        }
        results = ray.tune.Tuner(
            trial,
            param_space=config,
            tune_config=ray.tune.TuneConfig(max_concurrent_trials=cores),
            run_config=ray.tune.RunConfig(storage_path=f"{folder}/tune", verbose=0),
        ).fit()
        found = [(result.metrics["begin"], result.metrics["end"]) for result in results]
        ray.shutdown()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
