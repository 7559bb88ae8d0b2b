"""The kinds of measurements that every sweep has. Heavy libraries are imported when one is run, not before."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rayfit.measure.bench import Bench
from rayfit.measure.parts import num_parts
from rayfit.measure.stage import Measured, Stage
from rayfit.plan.measurements import Comparison, Generation, Prediction, Temperature, TextScores


def _predict(spec: Prediction, bench: Bench) -> Measured:
    from rayfit.measure.predictions import predict

    return predict(spec, bench)


def _generate_part(spec: Generation, bench: Bench, part: int) -> None:
    from rayfit.measure.generations import generate_part

    generate_part(spec, bench, part)


def _join_parts(spec: Generation, bench: Bench) -> Measured:
    from rayfit.measure.generations import join_parts

    return join_parts(spec, bench)


def _score(spec: TextScores, bench: Bench) -> Measured:
    from rayfit.measure.text_scores import score

    return score(spec, bench)


def _compare(spec: Comparison, bench: Bench) -> Measured:
    from rayfit.measure.comparisons import compare

    return compare(spec, bench)


def _solve_temperature(spec: Temperature, bench: Bench) -> Measured:
    from rayfit.measure.comparisons import solve_temperature

    return solve_temperature(spec, bench)


def _has_mauve_model(_: TextScores, bench: Bench) -> bool:
    """MAUVE's features are a model's; all other scores of texts are counted."""
    return bench.mauve_model is not None


STAGES = (
    Stage(kind=Prediction.kind, run=_predict),
    Stage(
        kind=Generation.kind,
        run=_join_parts,
        num_parts=num_parts,
        run_part=_generate_part,
        on_device=lambda _, __: False,
        does="generating",
    ),
    Stage(kind=TextScores.kind, run=_score, on_device=_has_mauve_model, does="scoring"),
    Stage(kind=Comparison.kind, run=_compare, does="comparing"),
    Stage(kind=Temperature.kind, run=_solve_temperature, does="matching"),
)


def stages_of(added: Iterable[Any]) -> dict[str, Stage]:
    """All stages by kind: those of every sweep, and those that a sweep adds."""
    return {stage.kind: stage for stage in (*STAGES, *added)}
