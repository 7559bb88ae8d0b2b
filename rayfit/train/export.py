"""What training leaves: one Hugging Face directory with the master weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from deepspeed.utils import safe_get_full_fp32_param

from rayfit.train.directory import copy_tokenizer, weights_digest, write_config

EXPORT_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def full_masters(engine: Any) -> dict[str, torch.Tensor]:
    """fp32 master weights by parameter name, on the host, on rank 0; empty on other ranks. All ranks must call it."""
    weights = {}
    for name, parameter in engine.module.named_parameters():
        # Stage 0 in fp32 has no separate masters: the parameter is its own.
        whole = (
            parameter.data if engine.zero_optimization_stage() == 0 else safe_get_full_fp32_param(parameter)
        )
        if dist.get_rank() == 0:
            weights[name] = whole.detach().float().cpu().clone()
    return weights


def export(engine: Any, model_path: Path, target: Path, dtype: str) -> str:
    """Write config, tokenizer and safetensors into `target` on rank 0; returns the masters' digest on every rank.

    The directory loads with `AutoModelForCausalLM.from_pretrained` and nothing of rayfit. `dtype` fp32 keeps the
    masters' bits; bf16 rounds them.
    """
    weights = full_masters(engine)
    box = [""]
    if dist.get_rank() == 0:
        box[0] = weights_digest(weights)
        number_type = EXPORT_DTYPES[dtype]
        target.mkdir(parents=True, exist_ok=True)
        engine.module.save_pretrained(
            target, state_dict={name: tensor.to(number_type) for name, tensor in weights.items()}
        )
        write_config(engine.module.config, target, number_type)
        copy_tokenizer(model_path, target)
    if dist.get_world_size() > 1:
        dist.broadcast_object_list(box, src=0)
    return box[0]
