"""The placement of trials, and what they leave beside their final weights. Neither is part of a trial's id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rayfit.config import Options
from rayfit.errors import RayfitError
from rayfit.plan.cards import Card
from rayfit.plan.grid import hub_preset, num_workers_of
from rayfit.plan.memory import SHARE_OF_CARD, PeakMemory, peak_memory
from rayfit.plan.sources import ModelSource
from rayfit.plan.trials import TrialSpec


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
    """The placement of a model's trials: what is asked for, or what its preset and the GPUs' memory say.

    The ZeRO stage is 1, or the preset's; where that is too much for the smallest card it is the first that fits, or 3.
    Raises RayfitError where no stage leaves room for what stays between updates.
    """
    use_gpu, num_workers = bool(options.use_gpu), num_workers_of(options, model)
    stages = _stages(options, model)
    peaks = {
        stage: _peak(options, model, trials, num_workers, stage) if use_gpu else None for stage in stages
    }
    smallest = min((card.num_bytes for card in cards), default=None)
    stage = next((stage for stage, peak in peaks.items() if _fits(peak, smallest)), stages[-1])
    peak = peaks[stage]
    if peak is not None and smallest is not None and peak.state > smallest:
        raise RayfitError(
            f"--num-workers: {model.name} at ZeRO stage {stage} keeps {peak.state / 2**30:.1f} GiB on each of {num_workers} "
            f"GPUs, and these have {smallest / 2**30:.1f} GiB; more --num-workers (that divide "
            "the batch), --zero-stage 3 or --adapter lora need less"
        )
    return Placement(
        num_workers=num_workers,
        zero_stage=stage,
        use_gpu=use_gpu,
        trials_per_group=options.trials_per_group,
        peak=peak,
    )


def _stages(options: Options, model: ModelSource) -> tuple[int, ...]:
    """The stages that may be taken, the fastest first."""
    if options.zero_stage is not None:
        return (options.zero_stage,)
    preset = hub_preset(model)
    first = 1 if preset is None else preset.zero_stage
    return tuple(range(first, 4)) if options.use_gpu else (first,)


def _peak(
    options: Options, model: ModelSource, trials: Sequence[TrialSpec], num_workers: int, stage: int
) -> PeakMemory | None:
    """What the trial that needs the most takes of each worker."""
    if model.num_parameters is None:
        return None
    each = {
        peak_memory(
            model.num_parameters,
            model.shape,
            zero_stage=stage,
            num_workers=num_workers,
            precision=recipe.precision,
            batch_size=recipe.batch_size,
            sequence_length=options.sequence_length,
            adapter=recipe.adapter,
        )
        for recipe in {trial.recipe for trial in trials}
    }
    return max(each, key=lambda peak: peak.bytes, default=None)


def _fits(peak: PeakMemory | None, num_bytes: int | None) -> bool:
    return peak is None or num_bytes is None or peak.bytes <= SHARE_OF_CARD * num_bytes


def products_of(options: Options) -> Products:
    """Return what the options ask of every trial."""
    return Products(
        eval_every=options.eval_every, keep_every=options.keep_every, export_dtype=options.export_dtype
    )
