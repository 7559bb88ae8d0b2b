"""What a card does of what it can: training, resetting, measuring; no Ray, but rayfit's own engine and loop.

    python benchmarks/gpu.py [--models 1.1b,8b] [--updates 5000] [--quick]

Needs torch, transformers and DeepSpeed, and an NVIDIA GPU; the quick form runs on a CPU too. Texts and their scores need
numba and polars as well, and are left out without them. Every arm is a process of its own. First come the card's own
limits, as torch reaches them: the rate of large products in bf16, and of copies. Weights are random, of the shapes of
TinyLlama and Llama 3.1 8B, and so are tokens: 8 rows of 256 an update, in bf16 with fp32 masters.
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
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from results import Result, Target, arguments, tell
from training import BATCH, TOKENS, rate_of, rows

SHAPES: dict[str, dict[str, int]] = {
    "tiny": {
        "vocab_size": 256,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    },
    "1.1b": {
        "vocab_size": 32000,
        "hidden_size": 2048,
        "intermediate_size": 5632,
        "num_hidden_layers": 22,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
    },
    "8b": {
        "vocab_size": 128256,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    },
}
STAGES = {"8b": 3}  # where it is not 1
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CONTEXT = 32


def save_model(shape: str, target: Path) -> int:
    """Write a Llama with random weights; its number of parameters."""
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.device(DEVICE):
        torch.manual_seed(0)
        model = LlamaForCausalLM(LlamaConfig(max_position_embeddings=2048, **SHAPES[shape]))
    model.to(torch.bfloat16).save_pretrained(target)
    return sum(parameter.numel() for parameter in model.parameters())


def finished() -> None:
    """Wait for the device."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def timed(work: Callable[[], object]) -> float:
    """Seconds of a piece of work, the device's part with it."""
    finished()
    begin = time.perf_counter()
    work()
    finished()
    return time.perf_counter() - begin


def limits(_: Path, quick: bool) -> dict[str, float]:
    """The rate of products (FLOP/s) and of copies (bytes read and written a second), each the best of five."""
    size = 256 if quick else 8192
    a, b = (torch.randn(size, size, dtype=torch.bfloat16, device=DEVICE) for _ in range(2))
    from_, to = (torch.empty(size, size * 8, dtype=torch.bfloat16, device=DEVICE) for _ in range(2))
    a @ b
    to.copy_(from_)
    return {
        "flops": 2 * size**3 / min(timed(lambda: a @ b) for _ in range(5)),
        "copied": 2 * to.nbytes / min(timed(lambda: to.copy_(from_)) for _ in range(5)),
    }


def _engine(model: Path) -> Any:
    from rayfit.devices import make_deterministic
    from rayfit.plan.deepspeed import deepspeed_config
    from rayfit.train.directory import file_tensors
    from rayfit.train.engine import build_engine, start_process_group

    use_gpu = DEVICE == "cuda"
    if use_gpu:
        make_deterministic()  # as a worker does
    if not torch.distributed.is_initialized():
        start_process_group(use_gpu=use_gpu)
    config = deepspeed_config(
        zero_stage=STAGES.get(model.name, 1),
        precision="bf16",
        batch_size=BATCH,
        num_workers=1,
        num_parameters=sum(tensor.numel() for _, tensor in file_tensors(model)),
        use_gpu=use_gpu,
    )
    return build_engine(model, config, use_gpu=use_gpu)


def _task(model: Path, num_updates: int) -> Any:
    from rayfit.plan.trials import CURVE_ROWS, curve_updates
    from rayfit.train.loop import TrainTask
    from rayfit.train.schedule import Schedule

    token_ids = rows(model)
    return TrainTask(
        schedule=Schedule(
            batch_size=BATCH,
            num_updates=num_updates,
            learning_rate=1e-6,
            order_seed=0,
            model_path=model,
            export_dtype="bf16",
        ),
        train_ids=token_ids,
        validation_ids=token_ids[:CURVE_ROWS],
        measured_updates=tuple(curve_updates(num_updates, BATCH, None)),
        checkpoint_path=model.parent / "trained",
    )


def training(model: Path, quick: bool) -> dict[str, float]:
    """Tokens a second of updates in rayfit's engine, and GiB at the peak."""
    from rayfit.train.loop import BatchLosses, run_update

    engine, task = _engine(model), _task(model, 10**6)
    losses = BatchLosses(10**6)

    def update(number: int) -> None:
        run_update(engine, task, number, losses, wants_norm=False)
        if number % 32 == 0:
            losses.last()  # as often as a training looks at them

    rate = rate_of(update, 0.1 if quick else 20.0)
    peak = torch.cuda.max_memory_allocated() if DEVICE == "cuda" else 0
    return {"rate": rate, "gib": peak / 2**30}


def whole_trial(model: Path, quick: bool, num_updates: int) -> dict[str, float]:
    """Seconds of one trial, from reset to export."""
    from rayfit.train.loop import train_trial
    from rayfit.train.reset import take_snapshot

    engine = _engine(model)
    snapshot = take_snapshot(engine)
    task = _task(model, 4 if quick else num_updates)
    return {"seconds": timed(lambda: train_trial(engine, snapshot, task, lambda _: None))}


def resetting(model: Path, quick: bool) -> dict[str, float]:
    """Seconds of a reset (median) and of a new engine, and by how many bytes the device's memory grew over all resets."""
    from rayfit.train.reset import restore, take_snapshot

    begin = time.perf_counter()
    engine = _engine(model)
    built = time.perf_counter() - begin
    snapshot = take_snapshot(engine)

    def held() -> int:
        return torch.cuda.memory_allocated() if DEVICE == "cuda" else 0

    restore(engine, snapshot, seed=0)
    before = held()
    seconds = [timed(lambda: restore(engine, snapshot, seed=0)) for _ in range(num_resets(quick))]
    return {"seconds": statistics.median(seconds), "built": built, "grown": float(held() - before)}


def num_texts(quick: bool) -> tuple[int, int]:
    """How many texts are generated, of how many tokens each."""
    return (4, 8) if quick else (300, 224 - CONTEXT)


def num_resets(quick: bool) -> int:
    """How many resets are measured."""
    return 3 if quick else 200


def evaluation(model: Path, quick: bool) -> dict[str, float]:
    """Seconds of one checkpoint's texts under W1 with all their scores, and of transformers' `generate` in batches of 8."""
    import polars as pl
    from generation import plain

    from rayfit.decoding import Block, Decoding
    from rayfit.generate.generator import generate
    from rayfit.generate.index import BlockIndex
    from rayfit.generate.loading import load_model
    from rayfit.score.text import aggregate_scores, score_texts

    count, new_tokens = num_texts(quick)
    token_ids = rows(model)
    contexts = np.resize(token_ids[:, :CONTEXT], (count, CONTEXT))
    loaded = load_model(model, precision="bf16", device=DEVICE)
    starts_word = np.ones(loaded.config.vocab_size, dtype=np.bool_)
    index = BlockIndex.build(token_ids, starts_word, bos_id=None)
    decoding = Decoding(num_new_tokens=new_tokens, block=Block())

    def ours() -> None:
        made = generate(loaded, contexts.tolist(), decoding, suppress_ids=(), block_index=index)
        frame = pl.DataFrame(
            {"context_id": range(count), "domain": ["random"] * count, "token_ids": made.tokens.tolist()}
        )
        aggregate_scores(score_texts(frame, token_ids, num_threads=1))

    timed(ours)  # compiles what scores
    theirs = count * new_tokens / plain(loaded, contexts, BATCH, new_tokens)
    return {"seconds": timed(ours), "theirs": theirs}


def by_trainer(model: Path, quick: bool) -> dict[str, float]:
    """Tokens a second of transformers' Trainer with DeepSpeed at the same settings."""
    from training import trainer

    seconds = 0.1 if quick else 20.0
    return {"rate": trainer(model, "bf16", seconds, with_deepspeed=True, use_cpu=DEVICE == "cpu")}


def apart(arm: str, model: Path, quick: bool, num_updates: int = 0) -> dict[str, float]:
    """An arm in a process of its own: what it measured, by name."""
    environment = {
        **os.environ,
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "29621",
        "DS_ACCELERATOR": DEVICE,
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # as workers have it
        "TRANSFORMERS_VERBOSITY": "error",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    command = [sys.executable, __file__, "--arm", arm, str(model), str(int(quick)), str(num_updates)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"benchmark: {arm} of {model.name} failed")
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


ARMS: dict[str, Callable[..., dict[str, float]]] = {
    "limits": limits,
    "training": training,
    "resetting": resetting,
    "evaluation": evaluation,
    "Trainer with DeepSpeed": by_trainer,
}


def measure(shapes: list[str], num_updates: int, *, quick: bool) -> list[Result]:
    """All rows of the shapes; the first of them is reset, measured and trained whole too."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        card = apart("limits", Path(folder), quick)
        found.append(Result("large products in bf16", card["flops"] / 1e12, "TFLOP/s"))
        found.append(Result("copies on the device", card["copied"] / 1e9, "GB/s"))
        for place, shape in enumerate(shapes):
            model = Path(folder) / shape
            num_parameters = save_model(shape, model)
            found += _of_training(shape, model, num_parameters, card["flops"], quick, beside=place == 0)
            if place == 0:
                found += _of_a_trial(shape, model, num_updates, quick)
                found += _of_texts(shape, model, quick)
    return found


def _of_training(
    shape: str, model: Path, num_parameters: int, flops: float, quick: bool, *, beside: bool
) -> list[Result]:
    own = apart("training", model, quick)
    theirs = apart("Trainer with DeepSpeed", model, quick)["rate"] if beside else None
    share = 100 * 6 * num_parameters * own["rate"] / flops
    return [
        Result(
            f"training {shape}, {BATCH} x {TOKENS}, bf16",
            own["rate"],
            "tokens/s",
            "Trainer with DeepSpeed" if beside else "",
            theirs,
            Target("at least", 1.2, "ratio") if beside else None,
        ),
        Result(
            f"training {shape}: share of the products' rate",
            share,
            "%",
            target=Target("at least", 45.0 if beside else 50.0),
        ),
        Result(f"training {shape}: peak memory", own["gib"], "GiB"),
    ]


def _of_a_trial(shape: str, model: Path, num_updates: int, quick: bool) -> list[Result]:
    trial = apart("trial", model, quick, num_updates)
    reset = apart("resetting", model, quick)
    return [
        Result(
            f"a trial of {shape}, {num_updates:,} updates, measured and exported",
            trial["seconds"],
            "s",
            target=Target("at most", 240.0),
        ),
        Result(
            f"reset of {shape}",
            reset["seconds"],
            "s",
            "a new engine",
            reset["built"],
            Target("at most", 1.0),
        ),
        Result(
            f"reset of {shape}: growth of the device's memory over {num_resets(quick)}",
            reset["grown"],
            "bytes",
            target=Target("at most", 0.0),
        ),
    ]


def _of_texts(shape: str, model: Path, quick: bool) -> list[Result]:
    missing = [name for name in ("numba", "polars") if find_spec(name) is None]
    if missing:
        print(f"benchmark: no texts of {shape}, which need {' and '.join(missing)}", file=sys.stderr)
        return []
    texts = apart("evaluation", model, quick)
    count, new_tokens = num_texts(quick)
    return [
        Result(
            f"texts of {shape}, {count} x {new_tokens}, W1, all scores",
            texts["seconds"],
            "s",
            "`generate` in batches of 8, without either",
            texts["theirs"],
            Target("at most", 30.0),
        ),
    ]


def main() -> None:
    """Measure and tell."""
    if sys.argv[1:2] == ["--arm"]:
        arm, model, quick, num_updates = sys.argv[2:]
        work = ARMS.get(arm) or partial(whole_trial, num_updates=int(num_updates))
        print(json.dumps(work(Path(model), quick == "1")))
        return
    parser = arguments(__doc__)
    parser.add_argument("--models", default="1.1b,8b", help=f"of {', '.join(SHAPES)}")
    parser.add_argument("--updates", type=int, default=5000)
    given = parser.parse_args()
    if given.quick:
        tell("GPU", measure(["tiny"], 4, quick=True), keep=False)
        return
    if DEVICE == "cpu":
        raise SystemExit("benchmark: torch can use no GPU here; --quick runs on a CPU")
    results = measure(given.models.split(","), given.updates, quick=False)
    tell("GPU", results, keep=True, kind=f"on {torch.cuda.get_device_name()}")


if __name__ == "__main__":
    main()
