"""Making an embedded model in a process of its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from rayfit.console import MakingStep
from rayfit.devices import usable_cpus
from rayfit.plan.precision import cpu_precision
from rayfit.prepare.apart import run_apart
from rayfit.presets import MADE_MODELS


def make_in_process(
    name: str, material: list[Any], base: Path | None, target: Path, report: Callable[[MakingStep], None]
) -> dict[str, Any]:
    """Train the preset `name` into the folder `target`; returns the facts of `make_model` or `instruct_model`.

    `material` is texts, or pairs of instruction and answer where the preset has a base, which lies in `base`. It is
    computed in what this CPU is good at. Raises RayfitError when the process ends before it is done.
    """
    num_threads, precision = usable_cpus(), cpu_precision().name
    arguments = (name, material, base, target, num_threads, precision)
    return dict(run_apart(_make, *arguments, what=f"making {name}", told=report))


def _make(
    name: str,
    material: list[Any],
    base: Path | None,
    target: Path,
    num_threads: int,
    precision: str,
    report: Callable[[MakingStep], None],
) -> dict[str, Any]:
    from transformers.utils import logging

    from rayfit.allocator import keep_freed_memory
    from rayfit.train.instruct import instruct_model
    from rayfit.train.make import make_model

    logging.disable_progress_bar()
    keep_freed_memory()
    preset = MADE_MODELS[name]
    make = (
        partial(make_model, preset, material)
        if base is None
        else partial(instruct_model, preset, material, base)
    )
    return make(target, report=report, num_threads=num_threads, precision=precision)
