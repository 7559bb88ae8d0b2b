"""`rayfit plan`: one model on GPUs that need not be here."""

from __future__ import annotations

import argparse

from rayfit.config import OFFLOADS
from rayfit.errors import RayfitError
from rayfit.plan.arrangement import Asked
from rayfit.plan.machines import MACHINES, machine_called
from rayfit.plan.sizing import Wish, render_sizing, size
from rayfit.plan.sources import resolve_model
from rayfit.records.storage import Storage

ABOUT = "whether training a model fits GPUs, how long it takes and what it costs, by formula"

_SWEEPS = "as of sweeps"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `rayfit plan`."""
    add = parser.add_argument
    add("--model", required=True, help="a preset or a local Hugging Face directory; several with commas")
    add("--gpu", required=True, metavar="|".join(MACHINES), help="the GPU and its gigabytes")
    add("--gpus", type=int, default=8, help="how many there are (default: 8)")
    for name, default in (("--batch-size", 8), ("--sequence-length", 256), ("--num-updates", 5000)):
        add(name, type=int, default=default, help=f"{_SWEEPS} (default: {default})")
    for name in ("--num-workers", "--micro-batch"):
        add(name, type=int, help=f"{_SWEEPS} (default: the cheapest that fits)")
    add("--zero-stage", type=int, choices=(0, 1, 2, 3), help=_SWEEPS)
    add("--offload", choices=OFFLOADS, help=_SWEEPS)
    add("--activation-checkpointing", choices=("yes", "no"), help=_SWEEPS)
    add("--price", type=float, help="dollars for one GPU and an hour, in place of the table's")
    add(
        "--tokens-per-second",
        type=float,
        help="of one trial, where one ran: updates x rows x tokens over its record's seconds.train",
    )


_POSITIVE = (
    *("gpus", "batch_size", "sequence_length", "num_updates", "num_workers", "micro_batch"),
    *("price", "tokens_per_second"),
)


def run(parsed: argparse.Namespace) -> int:
    """Print the sizing of each model; 1 where one does not fit. Raises RayfitError for what cannot be meant."""
    for name in _POSITIVE:
        value = getattr(parsed, name)
        if value is not None and value <= 0:
            raise RayfitError(f"--{name.replace('_', '-')}: expected more than 0; got {value:g}")
    sized = [size(_wish(parsed, name)) for name in parsed.model.split(",")]
    print("\n\n".join(map(render_sizing, sized)))
    return 0 if all(each.fits for each in sized) else 1


def _wish(parsed: argparse.Namespace, name: str) -> Wish:
    return Wish(
        model=resolve_model(name, None, Storage(parsed.storage)),
        gpu=parsed.gpu,
        machine=machine_called(parsed.gpu),
        num_gpus=parsed.gpus,
        asked=Asked(
            num_workers=parsed.num_workers,
            zero_stage=parsed.zero_stage,
            micro_batch=parsed.micro_batch,
            activation_checkpointing={"yes": True, "no": False, None: None}[parsed.activation_checkpointing],
            offload=parsed.offload,
        ),
        batch_size=parsed.batch_size,
        sequence_length=parsed.sequence_length,
        num_updates=parsed.num_updates,
        price=parsed.price,
        tokens_per_second=parsed.tokens_per_second,
    )
