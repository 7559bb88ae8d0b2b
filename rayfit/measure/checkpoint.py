"""Holding a checkpoint to measure it; a process keeps the last one, since jobs on the same one follow each other."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from rayfit.generate.loading import load_model
from rayfit.measure.bench import Checkpoint

_kept: dict[Checkpoint, Any] = {}


def held_model(checkpoint: Checkpoint) -> Any:
    """The model of a checkpoint, on its device; raises RayfitError where it cannot be loaded."""
    torch.set_num_threads(checkpoint.num_threads)
    if checkpoint not in _kept:
        let_go()
        _kept[checkpoint] = load_model(
            checkpoint.path, precision=checkpoint.precision, device=checkpoint.device
        )
    return _kept[checkpoint]


def computed_with(model: Any, batch_size: int) -> dict[str, str | int]:
    """What a record says of how it was computed: transformers' name of the attention, and texts at once at most."""
    return {"attention": model.config._attn_implementation, "batch_size": batch_size}


@contextmanager
def whole_rows(model: Any) -> Iterator[None]:
    """Within the block the model is for forward passes over whole rows of one length, without a cache, and faster at them.

    On a CPU in fp32 attention is torch's own there, a fifth of a pass faster; generation's cache is made for the plain one.
    """
    usual = model.config._attn_implementation
    faster = usual == "eager" and model.device.type == "cpu" and model.dtype == torch.float32
    if not (faster and model._supports_sdpa):
        yield
        return
    model.set_attn_implementation("sdpa")
    try:
        yield
    finally:
        model.set_attn_implementation(usual)


def let_go() -> None:
    """Free the model that is held: two models of 70B do not fit where one does."""
    _kept.clear()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
