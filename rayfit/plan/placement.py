"""The placement of trials, and what they leave beside their final weights. Neither is part of a trial's id."""

from __future__ import annotations

from dataclasses import dataclass

from rayfit.config import Options
from rayfit.plan.grid import num_workers_of, zero_stage_of
from rayfit.plan.sources import ModelSource


@dataclass(frozen=True, kw_only=True)
class Placement:
    """The place and the speed of a model's training, which say nothing of what is trained: it is part of no id.

    Bits do depend on it: workers and ZeRO stages add numbers in other orders, so only trials of one placement compare.
    """

    num_workers: int
    zero_stage: int
    use_gpu: bool
    trials_per_group: int


@dataclass(frozen=True, kw_only=True)
class Products:
    """The products of a trial beside its final weights. They are in no trial's id; a trial that lacks one is trained again.

    `eval_every`: updates between points of the curve, None for what `curve_updates` decides. `keep_every`: epochs between
    weights that are kept, which are evaluated too and so are part of the sweep's id. `export_dtype`: of all weights.
    """

    eval_every: int | None
    keep_every: float | None
    export_dtype: str


def placement_of(options: Options, model: ModelSource) -> Placement:
    """The placement of a model's trials: what is asked for, or what its preset says."""
    return Placement(
        num_workers=num_workers_of(options, model),
        zero_stage=zero_stage_of(options, model),
        use_gpu=options.use_gpu,
        trials_per_group=options.trials_per_group,
    )


def products_of(options: Options) -> Products:
    """Return what the options ask of every trial."""
    return Products(
        eval_every=options.eval_every, keep_every=options.keep_every, export_dtype=options.export_dtype
    )
