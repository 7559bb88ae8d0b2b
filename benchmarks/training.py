"""Training speed of one worker beside the plain ways to write it, and of two workers beside one.

    python benchmarks/training.py [--rounds 3] [--models pydoc-1m,50m] [--quick]

Every arm is a process of its own with one thread, the arms in turn in every round; rates are of whole updates at batch 8,
medians over rounds. Weights are random, of the shape of pydoc-1m and of a Llama of 50 million parameters, and so are tokens.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from results import Result, Target, arguments, tell

BATCH, TOKENS, ROWS = 8, 256, 64
SHAPES = {
    "tiny": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2},
    "pydoc-1m": {
        "hidden_size": 128,
        "intermediate_size": 344,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
    },
    "50m": {
        "hidden_size": 512,
        "intermediate_size": 1408,
        "num_hidden_layers": 12,
        "num_attention_heads": 8,
    },
}
VOCABULARY = {"tiny": 256, "pydoc-1m": 2048, "50m": 16384}
IN_A_GROUP = (
    "rayfit",
    "Trainer with DeepSpeed",
)  # of processes; a Trainer that finds one wraps the model for it
ARMS = ("rayfit", "plain loop", "Trainer", "Trainer with DeepSpeed")


def save_model(shape: str, target: Path) -> None:
    """Write a Llama with random weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=VOCABULARY[shape], tie_word_embeddings=True, **SHAPES[shape])
    LlamaForCausalLM(config).save_pretrained(target)


def rows(model: Path) -> Any:
    """Random int64 rows for the model's vocabulary, shape (rows, tokens)."""
    import numpy as np

    size = json.loads((model / "config.json").read_text())["vocab_size"]
    return np.random.default_rng(0).integers(1, size, (ROWS, TOKENS))


def rate_of(update: Callable[[int], object], seconds: float) -> float:
    """Tokens per second of whole updates, after two that warm up; at least three, for at least so many seconds."""
    for number in (1, 2):
        update(number)
    done, begin = 0, time.perf_counter()
    while done < 3 or time.perf_counter() - begin < seconds:
        done += 1
        update(2 + done)
    return done * BATCH * TOKENS / (time.perf_counter() - begin)


def rayfit(model: Path, precision: str, seconds: float) -> float:
    """The worker's own update, in its own engine."""
    import torch.distributed as dist

    from rayfit.allocator import keep_freed_memory
    from rayfit.plan.deepspeed import deepspeed_config
    from rayfit.train.engine import build_engine, start_process_group
    from rayfit.train.loop import BatchLosses, TrainTask, run_update
    from rayfit.train.schedule import Schedule

    keep_freed_memory()
    start_process_group()
    config = deepspeed_config(
        zero_stage=0, precision=precision, batch_size=BATCH, num_workers=dist.get_world_size()
    )
    engine = build_engine(model, config)
    schedule = Schedule(
        batch_size=BATCH,
        num_updates=10**6,
        learning_rate=1e-4,
        order_seed=0,
        model_path=model,
        export_dtype="fp32",
    )
    task = TrainTask(
        schedule=schedule,
        train_ids=rows(model),
        validation_ids=rows(model),
        measured_updates=(),
        checkpoint_path=model,
    )
    losses = BatchLosses(schedule.num_updates)

    def update(number: int) -> None:
        run_update(engine, task, number, losses, wants_norm=False)
        losses.last()

    if dist.get_world_size() == 1:
        return rate_of(update, seconds)
    # Workers run the same number of updates: as many as the first finds time for in a trial run.
    import torch

    count = torch.tensor([0], dtype=torch.int64)
    begin = time.perf_counter()
    for number in (1, 2, 3):
        update(number)
    count[0] = max(3, int(seconds / (time.perf_counter() - begin) * 3))
    dist.broadcast(count, src=0)
    begin = time.perf_counter()
    for number in range(int(count)):
        update(number + 4)
    return int(count) * BATCH * TOKENS / (time.perf_counter() - begin)


def plain_loop(model: Path, precision: str, seconds: float) -> float:
    """What one would write with PyTorch and transformers alone; in bf16 under autocast."""
    import torch
    from transformers import AutoModelForCausalLM

    network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    ids = torch.from_numpy(rows(model))

    def update(number: int) -> float:
        batch = ids[[(number * BATCH + i) % ROWS for i in range(BATCH)]]
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
            loss = network(input_ids=batch, labels=batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    return rate_of(update, seconds)


def trainer(
    model: Path, precision: str, seconds: float, *, with_deepspeed: bool, use_cpu: bool = True
) -> float:
    """transformers' Trainer; its updates are timed by a callback, logging and saving are off."""
    import torch
    from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments

    config = {
        "train_micro_batch_size_per_gpu": BATCH,
        "bf16": {"enabled": precision == "bf16"},
        "zero_optimization": {"stage": 1},
        "zero_allow_untested_optimizer": True,
    }
    if with_deepspeed:
        import deepspeed

        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False

    class Clock(TrainerCallback):
        """Stops the run when its time is over."""

        begin, done = 0.0, 0

        def on_step_end(self, _: Any, state: Any, control: Any, **__: Any) -> None:
            if state.global_step == 2:
                self.begin = time.perf_counter()
            self.done = state.global_step - 2
            if self.done >= 3 and time.perf_counter() - self.begin >= seconds:
                self.rate = self.done * BATCH * TOKENS / (time.perf_counter() - self.begin)
                control.should_training_stop = True

    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=BATCH,
            max_steps=10**6,
            learning_rate=1e-4,
            lr_scheduler_type="constant",
            bf16=precision == "bf16",
            use_cpu=use_cpu,
            logging_strategy="no",
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            deepspeed=config if with_deepspeed else None,
        )
        data = [{"input_ids": row, "labels": row} for row in torch.from_numpy(rows(model))]
        network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
        Trainer(model=network, args=settings, train_dataset=data, callbacks=[clock]).train()
    return clock.rate


def run_arm(arm: str, model: Path, precision: str, seconds: float) -> float:
    """An arm, in this process."""
    import torch

    torch.set_num_threads(1)
    if arm == "rayfit":
        return rayfit(model, precision, seconds)
    if arm == "plain loop":
        return plain_loop(model, precision, seconds)
    return trainer(model, precision, seconds, with_deepspeed=arm != "Trainer")


def apart(
    arm: str, model: Path, precision: str, seconds: float, *, workers: int = 1, port: int = 29611
) -> float:
    """An arm in processes of its own; the first one's tokens per second."""
    processes = []
    for rank in range(workers):
        group = {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(workers),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
        environment = {
            **os.environ,
            **(group if arm in IN_A_GROUP else {}),
            "DS_ACCELERATOR": "cpu",
            "OMP_NUM_THREADS": "1",
            "TRANSFORMERS_VERBOSITY": "error",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }
        command = [sys.executable, __file__, "--arm", arm, str(model), precision, str(seconds)]
        processes.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
    outputs = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        raise SystemExit(f"benchmark: {arm} on {model.name} in {precision} failed")
    return float(outputs[0].strip().splitlines()[-1])


def measure(models: list[str], precisions: list[str], rounds: int, seconds: float) -> list[Result]:
    """All arms on all shapes in the precisions, then two workers on the last shape."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        paths = {shape: Path(folder) / shape for shape in models}
        for shape, path in paths.items():
            save_model(shape, path)
        for shape, path in paths.items():
            for precision in precisions:
                rates: dict[str, list[float]] = {arm: [] for arm in ARMS}
                for _ in range(rounds):
                    for arm in ARMS:
                        rates[arm].append(apart(arm, path, precision, seconds))
                own = tuple(rates["rayfit"])
                for arm in ARMS[1:]:
                    target = Target("at least", 1.0 if arm == "plain loop" else 1.2, "ratio")
                    what = f"one worker of one thread, {shape}, {precision}"
                    ours, theirs = statistics.median(own), statistics.median(rates[arm])
                    found.append(Result(what, ours, "tokens/s", arm, theirs, target, own))
        shape, path = list(paths.items())[-1]
        for precision in precisions:
            two, one = [], []
            for _ in range(rounds):
                two.append(apart("rayfit", path, precision, seconds, workers=2))
                one.append(apart("rayfit", path, precision, seconds))
            what = f"two workers of one thread, {shape}, {precision}"
            target = Target("at least", 1.6, "ratio")
            ours, theirs = statistics.median(two), statistics.median(one)
            found.append(Result(what, ours, "tokens/s", "one worker", theirs, target, tuple(two)))
    return found


def main() -> None:
    """Measure and tell."""
    if sys.argv[1:2] == ["--arm"]:
        arm, model, precision, seconds = sys.argv[2:]
        print(run_arm(arm, Path(model), precision, float(seconds)))
        return
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", default="pydoc-1m,50m", help=f"of {', '.join(SHAPES)}")
    given = parser.parse_args()
    if given.quick:
        tell("Training", measure(["tiny"], ["fp32"], 1, 0.1), keep=False)
    else:
        tell("Training", measure(given.models.split(","), ["fp32", "bf16"], given.rounds, 10.0), keep=True)


if __name__ == "__main__":
    main()
