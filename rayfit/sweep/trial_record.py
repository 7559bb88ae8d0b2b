"""The record of a trial that has just been trained and exported."""

from __future__ import annotations

import time
from typing import Any

from rayfit.plan.trials import curve_updates
from rayfit.prepare.model_shape import num_layers
from rayfit.records.provenance import now, provenance
from rayfit.records.trials import (
    checkpoint_product,
    curve_product,
    is_hyperfitted,
    kept_product,
    loss_floor,
)
from rayfit.sweep.trial_task import TrialTask


def trial_record(
    config: dict[str, Any],
    engine: Any,
    task: TrialTask,
    result: Any,
    points: list[dict[str, Any]],
    times: dict[str, Any],
) -> dict[str, Any]:
    """The record, its products as paths within the attempt. Rank 0 makes it.

    `result`: the loop's TrainResult; `points`: the curve; `times`: `started_at`, `begin` (seconds since the epoch) and
    `previous_end` (when the group's previous trial was exported, or None).
    """
    floor = loss_floor(task.samples, task.sequence_length)
    overhead = None
    if times["previous_end"] is not None:
        overhead = round(result.first_update_at - times["previous_end"] - result.first_measure_seconds, 3)
    return {
        **task.about,
        "kind": "trial",
        "id": task.id,
        "status": "FINISHED",
        "products": _products(task, result),
        "weights_sha256": result.weights_sha256,
        "kept": _kept(result, points),
        "final": points[-1],
        "floor": floor,
        "hyperfitted": is_hyperfitted(points[-1]["train_loss"], floor),
        **_stop(task, result),
        **_parameters(config, engine),
        "overhead_seconds": overhead,
        "seconds": {
            "train": round(result.train_seconds, 3),
            "measure": round(result.measure_seconds, 3),
            "export": round(result.export_seconds, 3),
            "total": round(time.time() - times["begin"], 3),
        },
        "device": str(engine.device),
        "deterministic_kernels": _deterministic_kernels(engine),
        "worker_group": config["group_id"],
        "started_at": times["started_at"],
        "finished_at": now(),
        **provenance(),
    }


def _products(task: TrialTask, result: Any) -> dict[str, str]:
    regular = curve_updates(task.num_updates, task.eval_every)
    kept = {
        kept_product(update, task.export_dtype): "checkpoint"
        if update == result.updates
        else f"weights-{update}"
        for update in result.kept
    }
    return {
        checkpoint_product(task.export_dtype): "checkpoint",
        curve_product(regular[1] - regular[0], task.num_validation): "curve.parquet",
        **kept,
    }


def _kept(result: Any, points: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """By kept update, as text: the digest of its fp32 masters and its point of the curve."""
    by_update = {point["update"]: point for point in points}
    return {
        str(update): {"weights_sha256": digest, "point": by_update[update]}
        for update, digest in result.kept.items()
    }


def _stop(task: TrialTask, result: Any) -> dict[str, Any]:
    """What became of a loss to stop at: the update it was reached at, or the reason why there is none."""
    reason = None
    if task.stop_at_train_loss is None:
        reason = "the recipe has no training loss to stop at"
    elif result.stopped_at_update is None:
        reason = (
            f"a training loss of {task.stop_at_train_loss:g} was not reached in {task.num_updates} updates"
        )
    return {
        "updates_trained": result.updates,
        "stop_at_train_loss": task.stop_at_train_loss,
        "stopped_at_update": result.stopped_at_update,
        "stopped_at_update_reason": reason,
    }


def _parameters(config: dict[str, Any], engine: Any) -> dict[str, Any]:
    """How many parameters were trained, of how many that the (merged) model has, and which blocks an adapter adapts."""
    from rayfit.train.adapters import parameter_counts

    trained, total = parameter_counts(engine.module)
    adapter = config.get("adapter")
    blocks = None if adapter is None else list(adapter.blocks(num_layers(engine.module.config)))
    return {
        "trainable_parameters": trained,
        "parameters": total,
        "adapter": None if adapter is None else adapter.text,
        "adapter_blocks": blocks,
    }


def _deterministic_kernels(engine: Any) -> bool | None:
    """Whether PyTorch was told to use deterministic kernels only; None on CPUs, whose kernels are."""
    import torch

    return None if engine.device.type == "cpu" else bool(torch.are_deterministic_algorithms_enabled())
