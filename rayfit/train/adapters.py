"""LoRA in an engine: put into a model, set to the values a training seed gives, and merged into the file's weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from rayfit.errors import RayfitError
from rayfit.plan.adapters import Adapter
from rayfit.prepare.model_shape import num_layers
from rayfit.train.directory import file_values
from rayfit.train.lean_deepspeed import deepspeed

_NAME = "default"  # peft's own name of a model's only adapter


def add_adapter(model: torch.nn.Module, adapter: Adapter, num_shards: int = 1) -> None:
    """Freeze every weight of a transformers model and put the adapter's matrices beside those it adapts.

    `num_shards`: into how many equal parts each matrix is cut, which is one below ZeRO stage 3. Raises RayfitError
    where that cannot be, and where the blocks have no linear layers.
    """
    import peft

    for parameter in model.parameters():
        parameter.requires_grad_(False)
    targets = [name for name, _ in _adaptable(model, adapter.blocks(_num_layers(model)))]
    if not targets:
        raise RayfitError(f"--adapter: {type(model).__name__} has no linear layers in its blocks to adapt")
    settings = peft.LoraConfig(
        r=adapter.rank, lora_alpha=adapter.alpha, lora_dropout=0.0, bias="none", target_modules=targets
    )
    peft.inject_adapter_in_model(settings, model)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and parameter.numel() % num_shards:
            raise RayfitError(
                f"--adapter: at ZeRO stage 3 {name} of shape {tuple(parameter.shape)} is to be cut into {num_shards} "
                f"equal parts, one per worker; take a rank that {num_shards} divides, or a lower stage"
            )


def _num_layers(model: torch.nn.Module) -> int:
    config: Any = model.config
    return num_layers(config)


def _blocks(model: torch.nn.Module) -> tuple[str, torch.nn.ModuleList]:
    """The list of the model's blocks and its name: the first list as long as the configuration says."""
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == _num_layers(model):
            return name, module
    raise RayfitError(f"--adapter: no list of {_num_layers(model)} blocks in {type(model).__name__}")


def _adaptable(model: torch.nn.Module, numbers: range) -> Iterator[tuple[str, torch.nn.Linear]]:
    """(name, module) of every linear layer of the numbered blocks, in the model's own order."""
    where, blocks = _blocks(model)
    for number in numbers:
        for name, module in blocks[number].named_modules():
            if isinstance(module, torch.nn.Linear):
                yield f"{where}.{number}.{name}", module


def adapted_modules(model: torch.nn.Module) -> dict[str, Any]:
    """peft's layers by the name of the layer that each adapts, in the model's own order; empty without an adapter."""
    return {name: module for name, module in model.named_modules() if hasattr(module, "lora_A")}


def initial_matrix(train_seed: int, block: int, number: int, shape: tuple[int, int]) -> torch.Tensor:
    """The start of one A, fp32 of `shape` (rank, inputs): uniform in +-1/sqrt(inputs), peft's own default law.

    Drawn from the raw words of a Philox counter keyed by (training seed, block), whose streams are 2^128 words apart,
    one for each of the block's adapted layers: the same values whatever the workers, the ZeRO stage and the library.
    """
    stream = np.random.Philox(
        key=np.array([train_seed, block], dtype=np.uint64),
        counter=np.array([0, 0, number, 1], dtype=np.uint64),
    )
    words = stream.random_raw(shape[0] * shape[1])
    units = (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return torch.from_numpy(((2 * units - 1) / shape[1] ** 0.5).astype(np.float32).reshape(shape))


@torch.no_grad()
def start_adapter(engine: Any, train_seed: int) -> None:
    """Set the adapter, masters and compute weights, to what the training seed gives. Every rank calls it alike."""
    place = ("", -1)
    for name, module in adapted_modules(engine.module).items():
        where, number = _block_of(name)
        place = (where, place[1] + 1) if where == place[0] else (where, 0)
        matrix_a, matrix_b = _matrices(module)
        _set(engine, matrix_a, initial_matrix(train_seed, number, place[1], _shape(matrix_a)))
        _set(engine, matrix_b, torch.zeros(_shape(matrix_b)))


def _block_of(name: str) -> tuple[str, int]:
    """The name and the number of the block that a layer belongs to: of model.layers.3.mlp.up_proj, model.layers.3 and 3."""
    parts = name.split(".")
    place = next(place for place, part in enumerate(parts) if part.isdecimal())
    return ".".join(parts[: place + 1]), int(parts[place])


def _matrices(module: Any) -> tuple[torch.nn.Parameter, torch.nn.Parameter]:
    return module.lora_A[_NAME].weight, module.lora_B[_NAME].weight


def _shape(parameter: Any) -> tuple[int, int]:
    """The whole parameter's shape, also where this rank holds a shard."""
    rows, columns = getattr(parameter, "ds_shape", parameter.shape)
    return int(rows), int(columns)


def _set(engine: Any, parameter: Any, value: torch.Tensor) -> None:
    """Write an fp32 value, in place, into a parameter's compute weight and, where there is one, its master."""
    value = value.to(engine.device)
    if hasattr(parameter, "ds_tensor"):
        shard = parameter.ds_tensor
        begin = dist.get_rank() * shard.numel()
        shard.copy_(value.flatten()[begin : begin + shard.numel()])
        if parameter.data.numel() == value.numel():  # small parameters are also kept whole
            parameter.data.copy_(value)
    else:
        parameter.data.copy_(value)
    if engine.zero_optimization_stage() > 0:
        deepspeed.utils.safe_set_full_fp32_param(parameter, value)


def full_master(engine: Any, parameter: Any) -> torch.Tensor:
    """A trained parameter's whole fp32 master, on its device. All ranks must call it."""
    # Stage 0 in fp32 has no separate masters: the parameter is its own.
    whole = (
        parameter.data
        if engine.zero_optimization_stage() == 0
        else deepspeed.utils.safe_get_full_fp32_param(parameter)
    )
    return whole.detach().float()


@torch.no_grad()
def merged_weights(engine: Any, model_path: Path) -> dict[str, torch.Tensor]:
    """The model with its adapter merged: the file's values plus alpha / rank * B A, fp32 by the model's own names.

    On the host, on rank 0; empty on other ranks. All ranks must call it. Only rank 0 reads the file.
    """
    changes = {}
    for name, module in adapted_modules(engine.module).items():
        matrix_a, matrix_b = (full_master(engine, parameter).cpu() for parameter in _matrices(module))
        if dist.get_rank() == 0:
            changes[f"{name}.weight"] = (matrix_b @ matrix_a) * module.scaling[_NAME]
    if dist.get_rank() != 0:
        return {}
    weights = {}
    for name, tensor in file_values(model_path, base_names(engine.module), engine.module.base_model_prefix):
        weights[name] = tensor.float() + changes[name] if name in changes else tensor.float()
    return weights


def base_names(model: torch.nn.Module) -> list[str]:
    """The names of the model's parameters as they are without an adapter."""
    names = [
        name for name, _ in model.named_parameters() if ".lora_A." not in name and ".lora_B." not in name
    ]
    return [name.replace(".base_layer.", ".") for name in names]


def parameter_counts(model: torch.nn.Module) -> tuple[int, int]:
    """(trained, all) numbers of parameters; all without the adapter's, which merging makes disappear."""
    trained = total = 0
    for name, parameter in model.named_parameters():
        count = int(getattr(parameter, "ds_numel", parameter.numel()))
        trained += count if parameter.requires_grad else 0
        total += 0 if ".lora_A." in name or ".lora_B." in name else count
    return trained, total
