"""The record of a trial: what was declared, how it was trained, what it left."""

from __future__ import annotations

import math
from itertools import groupby
from typing import Any, Literal

from rayfit.records.values import Value

HYPERFITTED_MARGIN = 0.1


class Point(Value, frozen=True, kw_only=True):
    """One measurement of a worker along training, in the precision of training; losses and entropy in nats per token.

    `train_loss` and `train_accuracy` are over the first `train_rows` rows; all of them where training stopped at their
    loss. `batch_loss` and
    `gradient_norm` are null at update 0; `seconds` count from the trial's start.
    """

    update: int
    epoch: float
    train_loss: float
    train_accuracy: float
    batch_loss: float | None
    validation_loss: float
    validation_entropy_nats: float
    gradient_norm: float | None
    train_rows: int
    seconds: float


class Product(Value, frozen=True, kw_only=True):
    """Something that a trial left: all weights of its end, those kept after an update, or a training curve.

    `path` is relative to the trial's folder. `dtype`: of weights. `every` (updates) and `num_validation` (rows): of a
    curve.
    """

    kind: Literal["checkpoint", "weights", "curve"]
    path: str
    dtype: str | None = None
    update: int | None = None
    every: int | None = None
    num_validation: int | None = None

    @property
    def name(self) -> str:
        """What it is, without where it lies: `checkpoint-fp32`, `weights-40-fp32`, `curve-every20-validation64`."""
        if self.kind == "curve":
            return f"curve-every{self.every}-validation{self.num_validation}"
        return "-".join(
            filter(None, [self.kind, None if self.update is None else str(self.update), self.dtype])
        )


class TrainedModel(Value, frozen=True, kw_only=True):
    """The model a trial started from. `weights_sha256`: of made models, which another machine could make differently."""

    name: str
    kind: Literal["made", "local", "hub"]
    parameters: int | None
    weights_sha256: str | None


class TrainedRows(Value, frozen=True, kw_only=True):
    """The token rows a trial was trained on."""

    id: str
    fingerprint: str


class Placed(Value, frozen=True, kw_only=True):
    """Where a trial was trained: workers, the ZeRO stage that was asked for and the one that ran, with the reason.

    `micro_batch`: rows that a worker computed at once, null for all of its own; `offload`: `cpu` where the host kept masters
    and moments. Records of before these have their defaults.
    """

    num_workers: int
    zero_stage: int
    use_gpu: bool
    trials_per_group: int
    zero_stage_run: int
    note: str
    micro_batch: int | None = None
    activation_checkpointing: bool = False
    offload: str = "none"


class Stretch(Value, frozen=True, kw_only=True):
    """Updates of a trial that one worker group trained without a break: from the one after `after` on."""

    after: int
    placement: Placed
    device: str
    worker_group: str


class Exchange(Value, frozen=True, kw_only=True):
    """Two samples that changed places in every epoch; what that did to batches as `rayfit.plan.order.ExchangedEpochs`."""

    samples: tuple[int, int]
    epochs: int
    in_one_batch: int
    changed: int
    unseen: int


class Kept(Value, frozen=True, kw_only=True):
    """Weights kept after an update: the digest of their fp32 masters, and the curve's point there."""

    weights_sha256: str
    point: Point


class TrialSeconds(Value, frozen=True, kw_only=True):
    """Wall time of a trial: training, measuring along it, exporting, keeping its state, and in all.

    Of one that was interrupted and went on, the tries together, without what passed between them.
    """

    train: float
    measure: float
    export: float
    total: float
    state: float = 0.0


class AboutTrial(Value, frozen=True, kw_only=True):
    """What is known of a trial before it is trained, and is copied into its record.

    `declared` is what its id is the hash of. `sweep_id`: the sweep that trained it first. `text`: the name of the text it
    is trained on.
    """

    id: str
    declared: dict[str, Any]
    readable: str
    sweep_kind: str
    sweep_id: str
    command: str
    model: TrainedModel
    text: str
    rows: TrainedRows
    samples: int
    sample_seed: int
    order_seed: int
    num_updates: int
    epochs: float
    learning_rate: float
    batch_size: int
    adapter: str | None
    repeat: int
    exchange: Exchange | None
    precision: str
    placement: Placed


class TrialRecord(AboutTrial, frozen=True, kw_only=True):
    """A finished trial.

    `products`: what it left. `weights_sha256`: of its fp32 masters; `weights_differ_from` the digest of an earlier
    training of the same trial where that gave other bits. `edition` counts its trainings with `--fresh`. `kept`: by
    update, as text. `final`: the curve's last point; `floor`: the least mean loss (nats per token) that its rows allow;
    `hyperfitted`: by the final point, whose rows may be the first few. Tables say it by all rows, which evaluators measure.
    `stretches`: who trained its updates one after another, of a trial that was interrupted and went on; else empty.
    `updates_trained` of at most `num_updates`. `overhead_seconds`: between the group's previous trial and this one,
    null for a group's first. `deterministic_kernels`: null on CPUs, whose kernels are.
    `attention`: transformers' name of it, empty in older records.
    """

    edition: int
    products: tuple[Product, ...]
    weights_sha256: str
    kept: dict[str, Kept]
    final: Point
    floor: float
    hyperfitted: bool
    updates_trained: int
    stop_at_train_loss: float | None
    stopped_at_update: int | None
    stopped_at_update_reason: str | None
    trainable_parameters: int
    parameters: int
    adapter_blocks: tuple[int, ...] | None
    overhead_seconds: float | None
    seconds: TrialSeconds
    device: str
    deterministic_kernels: bool | None
    attention: str = ""
    worker_group: str
    started_at: str
    finished_at: str
    versions: dict[str, str]
    git_commit: str | None
    weights_differ_from: str | None = None
    stretches: tuple[Stretch, ...] = ()

    @property
    def placements(self) -> tuple[Placed, ...]:
        """Where its updates were trained, one after another; the same places give the same bits on CPUs."""
        return tuple(placement for placement, _ in groupby(each.placement for each in self.stretches)) or (
            self.placement,
        )

    def product(self, name: str) -> Product | None:
        """The product of this name (`Product.name`), or None."""
        return next((product for product in self.products if product.name == name), None)

    @property
    def kept_updates(self) -> list[int]:
        """The updates whose weights are kept, in whatever dtype, sorted."""
        return sorted(
            {
                product.update
                for product in self.products
                if product.kind == "weights" and product.update is not None
            }
        )


class TrialFailure(Value, frozen=True, kw_only=True):
    """Why the last attempt at a trial failed; `edition` is the one that the attempt would have been."""

    id: str
    error: str
    failed_at: str
    readable: str
    declared: dict[str, Any] | None
    edition: int = 1


def checkpoint(dtype: str, path: str = "") -> Product:
    """The exported weights of a trial's end."""
    return Product(kind="checkpoint", path=path, dtype=dtype)


def weights(update: int, dtype: str, path: str = "") -> Product:
    """The weights kept after an update, in the form of a checkpoint."""
    return Product(kind="weights", path=path, dtype=dtype, update=update)


def curve(every: int, num_validation: int, path: str = "") -> Product:
    """A training curve with a point every so many updates, over so many validation rows."""
    return Product(kind="curve", path=path, every=every, num_validation=num_validation)


def loss_floor(num_samples: int, sequence_length: int) -> float:
    """The least mean loss (nats per token) that rows can reach: ln(N) / (L - 1).

    Nothing before a row's first predicted tokens tells which of N distinct rows it is, which costs ln(N) nats once.
    """
    return math.log(num_samples) / (sequence_length - 1)


def is_hyperfitted(train_loss: float, floor: float) -> bool:
    """True when the final training loss, in evaluation mode, is at most 0.1 nats above the floor."""
    return train_loss <= floor + HYPERFITTED_MARGIN
