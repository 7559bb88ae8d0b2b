"""What keeping the state of a training costs it: seconds that it stands still, and seconds until the state is whole.

    python benchmarks/state.py [--rounds 3] [--quick]

A Llama of 300 million parameters with random weights, in bf16 with fp32 masters at stage 1, on one worker of one thread. The
alternative is DeepSpeed's own `save_checkpoint`, for which training stands still until it is written.
"""

from __future__ import annotations

import os
import shutil
import socket
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from results import Result, arguments, tell
from training import SHAPES, VOCABULARY, save_model

SHAPES["300m"] = {
    "hidden_size": 1024,
    "intermediate_size": 2816,
    "num_hidden_layers": 22,
    "num_attention_heads": 16,
}
VOCABULARY["300m"] = 16384


def engine_of(model: Path) -> Any:
    """A worker's engine, alone in its process group, with the moments of an update."""
    import torch

    from rayfit.plan.deepspeed import deepspeed_config
    from rayfit.train.engine import build_engine, start_process_group

    os.environ |= {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        os.environ |= {"MASTER_PORT": str(probe.getsockname()[1]), "DS_ACCELERATOR": "cpu"}
    torch.set_num_threads(1)
    start_process_group()
    config = deepspeed_config(zero_stage=1, precision="bf16", batch_size=1, num_workers=1)
    engine = build_engine(model, config)
    ids = torch.zeros((1, 8), dtype=torch.int64)
    engine.backward(engine(input_ids=ids, labels=ids).loss)
    engine.step()
    return engine


def ours(engine: Any, folder: Path) -> tuple[float, float, float, int]:
    """Seconds of copying, of writing and of hashing, and the bytes."""
    from rayfit.identity import file_digest
    from rayfit.train.state import take_state, write_state

    begin = time.perf_counter()
    taken = take_state(engine)
    copied = time.perf_counter()
    file = folder / "rank-0-of-1.safetensors"
    write_state(taken, file)
    with file.open("rb") as stream:
        os.fsync(stream.fileno())
    written = time.perf_counter()
    file_digest(file)
    hashed = time.perf_counter()
    return copied - begin, written - copied, hashed - written, file.stat().st_size


def theirs(engine: Any, folder: Path) -> float:
    """Seconds of DeepSpeed's own checkpoint."""
    begin = time.perf_counter()
    engine.save_checkpoint(str(folder), tag="state")
    return time.perf_counter() - begin


def main() -> None:
    """Measure and tell."""
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    shape, rounds = ("tiny", 1) if chosen.quick else ("300m", chosen.rounds)
    found: list[tuple[float, float, float, int]] = []
    others: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        save_model(shape, root / "model")
        engine = engine_of(root / "model")
        for number in range(rounds):
            folder = root / f"state-{number}"
            folder.mkdir()
            found.append(ours(engine, folder))
            shutil.rmtree(folder)
            others.append(theirs(engine, folder))
            shutil.rmtree(folder)
    size = found[0][3] / 1e9
    copy, write, digest = (statistics.median(each[place] for each in found) for place in range(3))
    whole = statistics.median(sum(each[:3]) for each in found)
    deepspeed = statistics.median(others)
    tell(
        "state",
        [
            Result(
                "training stands still for a state",
                copy,
                "s",
                "DeepSpeed's save_checkpoint",
                deepspeed,
                runs=tuple(each[0] for each in found),
            ),
            Result(
                "until it is whole, hashed", whole, "s", "DeepSpeed's save_checkpoint, not hashed", deepspeed
            ),
            Result("size of the state", size, "GB"),
            Result("copying", size / copy, "GB/s"),
            Result("writing", size / write, "GB/s"),
            Result("hashing", size / digest, "GB/s"),
        ],
        keep=not chosen.quick,
    )


if __name__ == "__main__":
    main()
