"""The rows of the table in docs/scaling.md, as the code has them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rayfit.plan.arrangement import Asked
from rayfit.plan.cheapest import host_bytes
from rayfit.plan.machines import MACHINES
from rayfit.plan.sizing import Wish, size
from rayfit.plan.sources import resolve_model
from rayfit.records.storage import Storage

MODELS = ("tinyllama-1.1b", "deepseek-7b", "llama-3.1-8b", "llama-3.1-70b")
GPUS = (("h100-80gb", (1, 8, 32)), ("h200-141gb", (1, 8, 16)))


def rows() -> Iterator[str]:
    for name in MODELS:
        model = resolve_model(name, None, Storage(Path("runs")))
        for gpu, counts in GPUS:
            for count in counts:
                machine = MACHINES[gpu]
                found = size(Wish(model=model, gpu=gpu, machine=machine, num_gpus=count, asked=Asked()))
                where = f"| {name} | {count} x {gpu} |"
                if not found.fits:
                    yield f"{where} does not fit | | | | | |"
                    continue
                host = host_bytes(found.peak, found.way, machine) / 2**30
                way = found.way.text.replace("--num-workers ", "N ").replace("--zero-stage ", "stage ")
                way = way.replace("--activation-checkpointing yes", "again").replace(
                    "--offload cpu", "offload"
                )
                yield (
                    f"{where} {way} | {found.peak.gib:.0f} | {host:.0f} | {found.seconds_per_update:.2g} | "
                    f"{found.gpu_hours:.2g} | {found.dollars:.2f} |"
                )
