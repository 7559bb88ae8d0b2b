"""The placement of trials, and what they leave beside their final weights. Neither is part of a trial's id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

from rayfit.config import Options
from rayfit.errors import RayfitError
from rayfit.plan.arrangement import Arrangement, Asked, Load
from rayfit.plan.cards import Card
from rayfit.plan.cheapest import cheapest
from rayfit.plan.dealing import check_batch
from rayfit.plan.machines import machine_of
from rayfit.plan.memory import PeakMemory
from rayfit.plan.sources import ModelSource
from rayfit.plan.trials import TrialSpec

# Where no GPU was looked at, a plan is for cards of this size.
ASSUMED_CARD = 80 << 30


@dataclass(frozen=True, kw_only=True)
class Placement(Arrangement):
    """The place and the speed of a model's training, which say nothing of what is trained: it is part of no id.

    Bits do depend on it: workers and ZeRO stages add numbers in other orders, so only trials of one placement compare.
    `peak`: what the trial that needs the most takes of each worker's GPU, by formula; None on CPUs, and where the
    number of the model's parameters is not known yet.
    """

    use_gpu: bool
    trials_per_group: int
    peak: PeakMemory | None = None


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

    On CPUs, and where the model's size is not known yet, one worker at stage 1 with nothing spared. Where no GPU was looked
    at it is for those of 80 GiB. Raises RayfitError for workers that cannot share a batch, for masters on the host
    without ZeRO, and where nothing leaves room for what stays between updates.
    """
    asked = Asked(**{field.name: getattr(options, field.name) for field in fields(Asked)})
    if asked.offload == "cpu" and asked.zero_stage == 0:
        raise RayfitError("--offload: cpu needs a ZeRO stage of 1 to 3; got --zero-stage 0")
    for trial in trials if asked.num_workers else ():
        check_batch(trial.recipe.batch_size, asked.num_workers or 1)
    if not options.use_gpu or model.num_parameters is None:
        said = {name: value for name, value in vars(asked).items() if value is not None}
        return _placed(options, Arrangement(**said), None)
    room = min((card.num_bytes for card in cards), default=ASSUMED_CARD)
    way, peak = cheapest(
        model.num_parameters,
        model.shape,
        asked,
        {
            Load(
                precision=trial.recipe.precision,
                batch_size=trial.recipe.batch_size,
                sequence_length=options.sequence_length,
                adapter=trial.recipe.adapter,
            )
            for trial in trials
        },
        num_bytes=room,
        machine=machine_of(cards),
        most_workers=len(cards) or None,
    )
    if cards and peak.state > room:
        raise RayfitError(
            f"--num-workers: {model.name} keeps {peak.state / 2**30:.1f} GiB between updates on each of {way.num_workers} "
            f"GPUs at ZeRO stage {way.zero_stage}, the least of all ways that are left open, and these have "
            f"{room / 2**30:.1f} GiB; {_what_helps(options, way)}"
        )
    return _placed(options, way, peak)


def _what_helps(options: Options, way: Arrangement) -> str:
    """The smallest change of what was asked for that needs less."""
    if way.zero_stage < 3:
        return "--zero-stage 3 divides all of it by the workers"
    if options.offload == "none":
        return "--offload cpu keeps masters and moments on the host"
    return "more GPUs, or --adapter lora"


def _placed(options: Options, way: Arrangement, peak: PeakMemory | None) -> Placement:
    return Placement(
        **asdict(way), use_gpu=bool(options.use_gpu), trials_per_group=options.trials_per_group, peak=peak
    )


def products_of(options: Options) -> Products:
    """Return what the options ask of every trial."""
    return Products(
        eval_every=options.eval_every, keep_every=options.keep_every, export_dtype=options.export_dtype
    )
