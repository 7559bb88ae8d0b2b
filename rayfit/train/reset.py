"""Putting a used engine back to where it was when it was built, in place and exactly."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from rayfit.train.lean_deepspeed import deepspeed

ZeroParamStatus = deepspeed.runtime.zero.partition_parameters.ZeroParamStatus


@dataclass(frozen=True)
class Snapshot:
    """This rank's own tensors, on the host, as they were right after the engine was built and its masters were set."""

    weights: list[torch.Tensor]
    buffers: list[torch.Tensor]
    masters: list[torch.Tensor]
    states: list[dict[str, Any]]
    groups: list[dict[str, Any]]


def _weight_tensors(engine: Any) -> list[torch.Tensor]:
    """The trained compute weights: this rank's shard at stage 3 (and the whole of those it keeps whole), else all."""
    tensors = []
    for parameter in engine.module.parameters():
        if not parameter.requires_grad:
            continue
        if hasattr(parameter, "ds_tensor"):
            tensors.append(parameter.ds_tensor)
            if getattr(parameter, "ds_persist", False):
                tensors.append(parameter.data)
        else:
            tensors.append(parameter.data)
    return tensors


def base_optimizer(engine: Any) -> torch.optim.Optimizer:
    """Adam itself, within DeepSpeed's optimizer if there is one."""
    optimizer = engine.optimizer
    return getattr(optimizer, "optimizer", optimizer)


def master_tensors(engine: Any) -> list[torch.Tensor]:
    """The tensors that Adam moves: fp32 partitions at stage 3, else what stands in the optimizer's groups."""
    # At stage 3 the groups' lists are empty between steps, so the partitions themselves are asked for.
    partitions = getattr(engine.optimizer, "fp32_partitioned_groups_flat", None)
    if partitions is not None:
        return list(partitions)
    return [parameter for group in base_optimizer(engine).param_groups for parameter in group["params"]]


def gather_small(engine: Any) -> None:
    """Have every rank hold small parameters whole, as stage 3 does from its first step on and gives up at times.

    Before any step, and after a model's very first forward pass where no other followed, they are cut as all others are.
    """
    small = getattr(engine.optimizer, "persistent_parameters", [])
    if any(parameter.ds_status != ZeroParamStatus.AVAILABLE for parameter in small):
        small[0].all_gather(small)


def _host(value: Any) -> Any:
    return value.detach().to("cpu", copy=True) if isinstance(value, torch.Tensor) else value


def _without_params(group: dict[str, Any]) -> dict[str, Any]:
    return {key: _host(value) for key, value in group.items() if key != "params"}


def take_snapshot(engine: Any) -> Snapshot:
    """Copy this rank's tensors; call it before any update, on every rank."""
    base = base_optimizer(engine)
    gather_small(engine)
    return Snapshot(
        weights=[_host(tensor) for tensor in _weight_tensors(engine)],
        buffers=[_host(buffer) for buffer in engine.module.buffers()],
        masters=[_host(tensor) for tensor in master_tensors(engine)],
        states=[
            {k: _host(v) for k, v in base.state.get(master, {}).items()} for master in master_tensors(engine)
        ],
        groups=[_without_params(group) for group in base.param_groups],
    )


@torch.no_grad()
def restore(engine: Any, snapshot: Snapshot, *, seed: int) -> None:
    """Put weights, masters, moments, counters and random generators back; a trial then runs as in a fresh process.

    Tensors are written in place, never replaced: they are views of DeepSpeed's flat buffers. Also right after a trial
    that failed between backward and step, whose half-made gradients are dropped.
    """
    base = base_optimizer(engine)
    gather_small(engine)
    _copy_all(_weight_tensors(engine), snapshot.weights)
    _copy_all(list(engine.module.buffers()), snapshot.buffers)
    masters = master_tensors(engine)
    _copy_all(masters, snapshot.masters)
    for master, saved in zip(masters, snapshot.states, strict=True):
        _restore_state(base.state.get(master, {}), saved)
    for group, saved in zip(base.param_groups, snapshot.groups, strict=True):
        for key in [key for key in group if key not in saved and key != "params"]:
            del group[key]
        group.update({key: _host(value) for key, value in saved.items()})
    engine.optimizer.zero_grad()
    engine.zero_grad()
    _forget_passes(engine.optimizer)
    engine.global_steps = engine.global_samples = engine.micro_steps = engine.skipped_steps = 0
    engine._global_grad_norm = 0.0
    seed_everything(seed)


def _forget_passes(optimizer: Any) -> None:
    """Forget what stages 1 and 2 gather over the passes of an update and only a step forgets; stage 3 does it itself."""
    from deepspeed.runtime.zero.stage_1_and_2 import INITIAL_MICRO_STEP_ID, DeepSpeedZeroOptimizer

    if isinstance(optimizer, DeepSpeedZeroOptimizer):
        optimizer.micro_step_id = INITIAL_MICRO_STEP_ID  # from 1 on gradients on the host are added to
        optimizer.averaged_gradients, optimizer.all_grad_tensors = {}, {}


def _copy_all(targets: list[torch.Tensor], sources: list[torch.Tensor]) -> None:
    for target, source in zip(targets, sources, strict=True):
        target.copy_(source)


def _restore_state(state: dict[str, Any], saved: dict[str, Any]) -> None:
    # Moments that did not exist yet go to zero in place; clearing the state would leave DeepSpeed with dead links.
    for key, value in state.items():
        if isinstance(value, torch.Tensor):
            if key in saved:
                value.copy_(saved[key])
            else:
                value.zero_()
        elif key in saved:
            state[key] = saved[key]


def seed_everything(seed: int) -> None:
    """Seed the generators of torch (CPU and GPUs), NumPy and Python."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)
