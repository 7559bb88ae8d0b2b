"""A DeepSpeed engine over a pretrained model, whose fp32 master weights are the file's own values."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from transformers.integrations import HfDeepSpeedConfig

from rayfit.plan.adapters import Adapter
from rayfit.prepare.model_shape import load_causal_model
from rayfit.train.adapters import add_adapter, start_adapter
from rayfit.train.directory import file_values
from rayfit.train.lean_deepspeed import deepspeed

# One rank exports while the others wait in a collective, which ends the group when it takes longer: hashing and writing
# 280 GB of 70B in fp32 to a slow disk takes a quarter of an hour to an hour.
LONGEST_WAIT = timedelta(hours=4)


def start_process_group(*, use_gpu: bool = False) -> None:
    """Let DeepSpeed join (or start, from RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT) this process's group.

    Over nccl on GPUs, else over gloo. DeepSpeed's own shared-memory communication for CPUs is turned off: it would be
    compiled here and now, and gloo does the same work without a compiler.
    """
    if use_gpu:
        # Before any collective: each rank's first tensors go to the current device.
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    else:
        # Asking for it asks for all of DeepSpeed's operations, with warnings where there is no compiler.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(
        dist_backend="nccl" if use_gpu else "gloo", verbose=False, timeout=LONGEST_WAIT
    )


def build_engine(
    model_path: Path,
    config: dict[str, Any],
    adapter: Adapter | None = None,
    *,
    use_gpu: bool = False,
    checkpoint_activations: bool = False,
) -> Any:
    """A DeepSpeed engine around the causal language model in a Hugging Face directory.

    All dropout is 0. Weights come from safetensors only and no code of the directory is run. In bf16 the fp32 masters
    are set from the file after the engine is built, for DeepSpeed itself starts them from bf16-rounded weights, which
    at a learning rate of 1e-6 is an error larger than a whole short training. With an adapter only its matrices are
    trained; every trial sets them to what its training seed gives. `checkpoint_activations`: a block's activations are
    computed again in backward from its input, which alone is kept. Raises as `load_causal_model`.
    """
    stage = config["zero_optimization"]["stage"]
    partitioned = (
        HfDeepSpeedConfig(config) if stage == 3 else None
    )  # alive while the model loads: shards at once
    model = load_causal_model(
        model_path, dtype=torch.float32, attn_implementation=_attention(config, use_gpu=use_gpu)
    )
    del partitioned
    turn_off_dropout(model)
    model.config.use_cache = False
    if checkpoint_activations:
        _checkpoint_activations(model, stage)
    if adapter is not None:
        add_adapter(model, adapter, num_shards=dist.get_world_size() if stage == 3 else 1)
    # DeepSpeed's own groups wait ten minutes at most, and ranks on nodes that load more slowly come later than that.
    dist.barrier()
    # DeepSpeed writes into the configuration it is given.
    engine, *_ = deepspeed.initialize(
        model=model,
        model_parameters=[parameter for parameter in model.parameters() if parameter.requires_grad],
        config={**config, "optimizer": {**config["optimizer"]}},
    )
    if adapter is not None:
        start_adapter(engine, train_seed=0)
    elif config["bf16"]["enabled"]:
        set_masters(engine, model_path)
    return engine


def _checkpoint_activations(model: Any, stage: int) -> None:
    """Have each block keep its input alone.

    At stage 3 torch's older form: the newer one compares what is kept with what is computed again, and there the kept
    weights have been given back meanwhile. The older one needs an input with a gradient.
    """
    model.gradient_checkpointing_enable({"use_reentrant": stage == 3})
    if stage == 3:
        model.enable_input_require_grads()


def _attention(config: dict[str, Any], *, use_gpu: bool) -> str:
    """Which of transformers' attentions is the fastest: on CPUs, torch's own is slow in bf16."""
    return "sdpa" if use_gpu or not config["bf16"]["enabled"] else "eager"


def turn_off_dropout(model: torch.nn.Module) -> None:
    """Set every dropout of a transformers model to 0, in its modules and in its configuration."""
    for module in model.modules():
        if isinstance(module, torch.nn.modules.dropout._DropoutNd):
            module.p = 0.0
        # Attention reads its rate from an attribute rather than from a module.
        for name in ("attention_dropout", "dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    config: Any = model.config
    for name, value in list(vars(config).items()):
        if ("dropout" in name or name.endswith("pdrop")) and isinstance(value, float):
            setattr(config, name, 0.0)


def set_masters(engine: Any, model_path: Path) -> None:
    """Write the file's values, as fp32, into the engine's fp32 master weights.

    Raises RayfitError when a parameter of the model has no tensor of its name in the files.
    """
    parameters = dict(engine.module.named_parameters())
    for name, tensor in file_values(model_path, parameters, engine.module.base_model_prefix):
        deepspeed.utils.safe_set_full_fp32_param(parameters[name], tensor.float())
