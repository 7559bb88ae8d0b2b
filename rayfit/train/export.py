"""The checkpoint that training leaves: one Hugging Face directory with the master weights."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from rayfit.train.adapters import adapted_modules, full_master, merged_weights
from rayfit.train.directory import copy_tokenizer, weights_digest, write_config
from rayfit.train.room import with_room

EXPORT_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def full_masters(engine: Any, model_path: Path) -> dict[str, torch.Tensor]:
    """fp32 master weights by parameter name, on the host, on rank 0; empty on other ranks. All ranks must call it.

    An adapter is merged: the names are the model's own, and its frozen weights are those of the file in `model_path`.
    """
    if adapted_modules(engine.module):
        return merged_weights(engine, model_path)
    weights = {}
    for name, parameter in engine.module.named_parameters():
        whole = full_master(engine, parameter)
        if dist.get_rank() == 0:
            weights[name] = whole.to("cpu", copy=True)
    return weights


def export(
    engine: Any, model_path: Path, target: Path, dtype: str, tell: Callable[[str], None] = lambda _: None
) -> str:
    """Write config, tokenizer and safetensors into `target` on rank 0; returns the masters' digest on every rank.

    The directory loads with `AutoModelForCausalLM.from_pretrained` and nothing of rayfit. `dtype` fp32 keeps the
    masters' bits; bf16 rounds them. Where there is no room, `tell` is told on rank 0, and it is waited for.
    """
    weights = full_masters(engine, model_path)

    def write() -> str:
        number_type = EXPORT_DTYPES[dtype]
        target.mkdir(parents=True, exist_ok=True)
        # Hashing leaves Python to others, and every GPU of the group waits for the longer of the two.
        with ThreadPoolExecutor(max_workers=1) as beside:
            digest = beside.submit(weights_digest, weights)
            engine.module.save_pretrained(
                target, state_dict={name: tensor.to(number_type) for name, tensor in weights.items()}
            )
            write_config(engine.module.config, target, number_type)
            copy_tokenizer(model_path, target)
            return digest.result()

    return with_room(write, tell)
