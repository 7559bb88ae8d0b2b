"""The placement of trials, and what they leave beside their final weights. Neither is part of a trial's id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rayfit.config import Options
from rayfit.errors import RayfitError
from rayfit.plan.arrangement import Arrangement, Asked, cheapest
from rayfit.plan.cards import Card
from rayfit.plan.dealing import check_batch
from rayfit.plan.machines import machine_of
from rayfit.plan.memory import PeakMemory
from rayfit.plan.sources import ModelSource
from rayfit.plan.trials import TrialSpec

# Where no GPU was looked at, a plan is for cards of this size.
ASSUMED_CARD = 80 << 30


@dataclass(frozen=True, kw_only=True)
class Placement:
    """The place and the speed of a model's training, which say nothing of what is trained: it is part of no id.

    Bits do depend on it: workers and ZeRO stages add numbers in other orders, so only trials of one placement compare.
    `peak`: what the trial that needs the most takes of each worker's GPU, by formula; None on CPUs, and where the
    number of the model's parameters is not known yet.
    """

    num_workers: int
    zero_stage: int
    use_gpu: bool
    trials_per_group: int
    micro_batch: int | None = None
    activation_checkpointing: bool = False
    offload: str = "none"
    peak: PeakMemory | None = None

    @property
    def way(self) -> Arrangement:
        """The arrangement of its workers."""
        return Arrangement(
            num_workers=self.num_workers,
            zero_stage=self.zero_stage,
            micro_batch=self.micro_batch,
            activation_checkpointing=self.activation_checkpointing,
            offload=self.offload,
        )


@dataclass(frozen=True, kw_only=True)
class Products:
    """The products of a trial beside its final weights. They are in no trial's id; a trial that lacks one is trained again.

    `eval_every`: updates between points of the curve, None for what `curve_updates` decides. `keep_every`: epochs between
    weights that are kept, which are evaluated too and so are part of the sweep's id. `export_dtype`: of all weights.
    """

    eval_every: int | None
    keep_every: float | None
    export_dtype: str


def placement_of(
    options: Options, model: ModelSource, trials: Sequence[TrialSpec], cards: Sequence[Card]
) -> Placement:
    """The placement of a model's trials: what is asked for, and for the rest the cheapest that fits the smallest GPU.

    On CPUs, and where the model's size is not known yet, one worker at stage 1 with nothing spared. Raises RayfitError for
    workers that cannot share a batch, for masters on the host without ZeRO, and where nothing leaves room for what stays
    between updates.
    """
    batch_sizes = sorted({trial.recipe.batch_size for trial in trials})
    asked = _asked(options)
    if options.offload == "cpu" and options.zero_stage == 0:
        raise RayfitError("--offload: cpu needs a ZeRO stage of 1 to 3; got --zero-stage 0")
    if not options.use_gpu or model.num_parameters is None:
        way = _plain(asked)
        for batch_size in batch_sizes:
            check_batch(batch_size, way.num_workers)
        return _placed(options, way, None)
    for batch_size in batch_sizes if asked.num_workers else ():
        check_batch(batch_size, asked.num_workers or 1)
    room = min((card.num_bytes for card in cards), default=ASSUMED_CARD)
    way, peak = cheapest(
        model.num_parameters,
        model.shape,
        asked,
        kinds={(trial.recipe.precision, trial.recipe.batch_size, trial.recipe.adapter) for trial in trials},
        sequence_length=options.sequence_length,
        num_bytes=room,
        machine=machine_of(cards),
        most_workers=len(cards) or None,
    )
    if peak.state > room:
        raise RayfitError(
            f"--num-workers: {model.name} keeps {peak.state / 2**30:.1f} GiB between updates on each of {way.num_workers} "
            f"GPUs at ZeRO stage {way.zero_stage}, the least of all ways that are left open, and these have "
            f"{room / 2**30:.1f} GiB; {_what_helps(options, way)}"
        )
    return _placed(options, way, peak)


def _asked(options: Options) -> Asked:
    return Asked(
        num_workers=options.num_workers,
        zero_stage=options.zero_stage,
        micro_batch=options.micro_batch,
        activation_checkpointing=options.activation_checkpointing,
        offload=options.offload,
    )


def _plain(asked: Asked) -> Arrangement:
    """What is asked for, and for the rest nothing spared."""
    return Arrangement(
        num_workers=asked.num_workers or 1,
        zero_stage=1 if asked.zero_stage is None else asked.zero_stage,
        micro_batch=asked.micro_batch,
        activation_checkpointing=bool(asked.activation_checkpointing),
        offload=asked.offload or "none",
    )


def _what_helps(options: Options, way: Arrangement) -> str:
    """The smallest change of what was asked for that needs less."""
    if way.zero_stage < 3:
        return "--zero-stage 3 divides all of it by the workers"
    if options.offload == "none":
        return "--offload cpu keeps masters and moments on the host"
    return "more GPUs, or --adapter lora"


def _placed(options: Options, way: Arrangement, peak: PeakMemory | None) -> Placement:
    return Placement(
        num_workers=way.num_workers,
        zero_stage=way.zero_stage,
        micro_batch=way.micro_batch,
        activation_checkpointing=way.activation_checkpointing,
        offload=way.offload,
        use_gpu=bool(options.use_gpu),
        trials_per_group=options.trials_per_group,
        peak=peak,
    )


def products_of(options: Options) -> Products:
    """Return what the options ask of every trial."""
    return Products(
        eval_every=options.eval_every, keep_every=options.keep_every, export_dtype=options.export_dtype
    )
