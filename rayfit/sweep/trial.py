"""What a worker group is built from, what it is handed to train one trial, and the record that it makes of it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from rayfit.devices import device_name
from rayfit.plan.adapters import Adapter
from rayfit.plan.trials import curve_updates
from rayfit.prepare.model_shape import num_layers
from rayfit.records.provenance import git_commit, library_versions, now
from rayfit.records.states import StateOf
from rayfit.records.trial import (
    AboutTrial,
    Kept,
    Product,
    Stretch,
    TrialRecord,
    TrialSeconds,
    checkpoint,
    curve,
    is_hyperfitted,
    loss_floor,
    weights,
)
from rayfit.train.schedule import Schedule, TrainResult

if TYPE_CHECKING:
    from rayfit.train.keeping import Keeping


@dataclass(frozen=True, kw_only=True)
class GroupConfig:
    """A worker group: where its queue and its storage are, what its engine is built from, where it runs.

    `deepspeed` is the whole configuration; `adapter` is None where all weights are trained. `num_threads`: of each
    worker, on its CPU. `max_restarts`: how often Train starts the workers again.
    """

    group_id: str
    queue: str
    namespace: str
    storage: Path
    model_path: Path
    deepspeed: dict[str, Any]
    adapter: Adapter | None
    use_gpu: bool
    checkpoint_activations: bool = False
    num_threads: int
    num_workers: int
    max_restarts: int

    @property
    def launch(self) -> str:
        """The stamp of the launch that the group is of."""
        return self.group_id.split("-")[1]


@dataclass(frozen=True, kw_only=True)
class TrialTask:
    """One trial as a group needs it: ids resolved to paths, numbers decided. `about` is copied into the record.

    `eval_every`: updates between points of the curve, None for what `curve_updates` decides; `num_validation`: the rows
    that it is measured over, of validation text and of training text each. `wanted`: names of the products that it is
    trained for; `finished_before`: when its record was finished, None without one. `fresh`: its record replaces a
    finished one; `anew`: states of earlier launches count for nothing. `checkpoint_minutes`,
    `checkpoint_every`: between two states that training can go on from.
    """

    about: AboutTrial
    schedule: Schedule
    rows_path: Path
    validation_path: Path
    sequence_length: int
    num_validation: int
    eval_every: int | None
    wanted: tuple[str, ...]
    finished_before: str | None
    fresh: bool
    anew: bool
    checkpoint_minutes: float
    checkpoint_every: int | None

    @property
    def id(self) -> str:
        """The trial's id."""
        return self.about.id


@dataclass(frozen=True)
class Times:
    """When a trial began, as text, and when its group's previous trial was exported, in seconds since the epoch."""

    started_at: str
    previous_end: float | None


@dataclass(frozen=True)
class EngineFacts:
    """What the engine that trained says of itself.

    `trained` parameters of `total` that the (merged) model has; `adapter_blocks`: those that an adapter adapts, None
    without one. `attention`: transformers' name of it. `deterministic_kernels`: as asked of PyTorch; None on CPUs,
    whose kernels are.
    """

    trained: int
    total: int
    adapter_blocks: tuple[int, ...] | None
    device: str
    attention: str
    deterministic_kernels: bool | None


def engine_facts(engine: Any, adapter: Adapter | None) -> EngineFacts:
    """The facts of a DeepSpeed engine."""
    import torch

    from rayfit.train.adapters import parameter_counts

    trained, total = parameter_counts(engine.module)
    on_cpu = engine.device.type == "cpu"
    return EngineFacts(
        trained=trained,
        total=total,
        adapter_blocks=None if adapter is None else tuple(adapter.blocks(num_layers(engine.module.config))),
        device=device_name(engine.device),
        attention=engine.module.config._attn_implementation,
        deterministic_kernels=None if on_cpu else bool(torch.are_deterministic_algorithms_enabled()),
    )


def keeping(config: GroupConfig, task: TrialTask, facts: EngineFacts, attempt: Path, edition: int) -> Keeping:
    """What is kept of the trial while this group trains it into the folder `attempt`; `edition`: its record's."""
    from rayfit.train.keeping import Keeping

    about = task.about
    return Keeping(
        storage=config.storage,
        of=StateOf(
            trial=task.id,
            base_weights=about.model.weights_sha256,
            rows=about.rows.fingerprint,
            num_validation=task.num_validation,
            export_dtype=task.schedule.export_dtype,
        ),
        keep=task.schedule.keep,
        edition=edition,
        launch=config.launch,
        anew=task.anew,
        token=attempt.name.rsplit("-", 1)[1],
        stretch=Stretch(
            after=0, placement=about.placement, device=facts.device, worker_group=config.group_id
        ),
        seconds=60 * task.checkpoint_minutes,
        every=task.checkpoint_every,
    )


def trial_record(
    group_id: str,
    facts: EngineFacts,
    task: TrialTask,
    result: TrainResult,
    attempt: str,
    times: Times,
) -> TrialRecord:
    """The record. Rank 0 makes it. `attempt`: the folder of the trial's that this try has written to."""
    about, final = task.about, result.points[-1]
    floor, spent = loss_floor(about.samples, task.sequence_length), result.spent
    overhead = None
    if times.previous_end is not None:
        overhead = round(result.first_update_at - times.previous_end - result.first_measure_seconds, 3)
    return TrialRecord(
        **msgspec.structs.asdict(about),
        edition=1,
        products=_products(task, result, attempt),
        weights_sha256=result.weights_sha256,
        kept=_kept(result),
        stretches=result.stretches,
        final=final,
        floor=floor,
        hyperfitted=is_hyperfitted(final.train_loss, floor),
        updates_trained=result.updates,
        stop_at_train_loss=task.schedule.stop_at_train_loss,
        stopped_at_update=result.stopped_at_update,
        stopped_at_update_reason=_why_not_stopped(task, result),
        trainable_parameters=facts.trained,
        parameters=facts.total,
        adapter_blocks=facts.adapter_blocks,
        overhead_seconds=overhead,
        seconds=TrialSeconds(
            train=round(spent.train, 3),
            measure=round(spent.measure, 3),
            export=round(spent.export, 3),
            state=round(spent.state, 3),
            total=round(spent.total + time.time() - result.exported_at, 3),
        ),
        device=facts.device,
        attention=facts.attention,
        deterministic_kernels=facts.deterministic_kernels,
        worker_group=group_id,
        started_at=times.started_at,
        finished_at=now(),
        versions=library_versions(),
        git_commit=git_commit(),
    )


def _products(task: TrialTask, result: TrainResult, attempt: str) -> tuple[Product, ...]:
    schedule = task.schedule
    regular = curve_updates(schedule.num_updates, schedule.batch_size, task.eval_every)
    dtype = task.schedule.export_dtype
    kept = (weights(update, dtype, kept.path) for update, kept in result.kept.items())
    measured = curve(regular[1] - regular[0], task.num_validation, f"{attempt}/curve.parquet")
    return (checkpoint(dtype, f"{attempt}/checkpoint"), measured, *kept)


def _kept(result: TrainResult) -> dict[str, Kept]:
    by_update = {point.update: point for point in result.points}
    return {
        str(update): Kept(weights_sha256=kept.weights_sha256, point=by_update[update])
        for update, kept in result.kept.items()
    }


def _why_not_stopped(task: TrialTask, result: TrainResult) -> str | None:
    """Why there is no update at which the loss to stop at was reached."""
    wanted = task.schedule.stop_at_train_loss
    if wanted is None:
        return "the recipe has no training loss to stop at"
    if result.stopped_at_update is None:
        return f"a training loss of {wanted:g} was not reached in {task.schedule.num_updates} updates"
    return None
