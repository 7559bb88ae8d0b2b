"""The scores of generated texts, and of the true continuations that stand beside them: nothing is generated here."""

from __future__ import annotations

from typing import Any

import polars as pl

from rayfit.data.rows import token_matrix
from rayfit.measure.bench import Bench
from rayfit.measure.stage import Measured
from rayfit.plan.measurements import TextScores
from rayfit.records.frames import OF
from rayfit.records.measurement import MeasurementRecord
from rayfit.records.values import Entry, missing
from rayfit.score.arm import ORIGINAL_SCORES, arm_scores, original_scores
from rayfit.score.mauve import mauve
from rayfit.score.series import text_series
from rayfit.score.text import TrainingRows, index_rows, score_texts

NO_TRUTH = "prompts have no true continuation"
NO_BASELINE = "the original model's texts, which it is read from, were not generated"

FRAME = "scores"
"""What the file holds: a row per text, in the order of the generation's."""

_TEXT_COLUMNS = (
    "domain",
    "context",
    "truth",
    "text",
    "context_ids",
    "truth_ids",
    "token_ids",
    "steps_banned",
    "steps_changed",
)


def score(spec: TextScores, bench: Bench) -> Measured:
    """Score the texts of a generation, or the true continuations of its contexts, as many tokens as are generated.

    Raises RayfitError for texts that cannot be scored.
    """
    generation = bench.input(spec.generation)
    texts = bench.frame(generation, "texts")
    if spec.of_truth:
        scored = _scored(_true(texts, spec), None, generation, bench)
        return _measured(spec, scored, arm_scores(scored), text_series(scored))
    rows = bench.training_rows(spec.subject.trial)
    index = None if rows is None else index_rows(token_matrix(rows), bench.bos_id(spec))
    scored = _scored(texts, index, generation, bench)
    scores = {**arm_scores(scored), "mauve": _likeness(scored, spec, bench)}
    series = text_series(scored)
    if index is not None:
        beside, more = _original_beside(spec, index, bench)
        scores, series = {**scores, **beside}, {**series, **more}
    return _measured(spec, scored, scores, series)


def _measured(
    spec: TextScores, scored: pl.DataFrame, scores: dict[str, Entry], series: dict[str, Any]
) -> Measured:
    """With what the generation's file does not have already, a row per text."""
    kept = scored.drop(name for name in _TEXT_COLUMNS if name in scored.columns)
    return Measured(scores=scores, series=series, frames={FRAME: kept}, about={OF: spec.generation.id})


def _scored(
    texts: pl.DataFrame, index: TrainingRows | None, generation: MeasurementRecord, bench: Bench
) -> pl.DataFrame:
    size = generation.about["vocabulary_size"]
    assert isinstance(size, int)
    return score_texts(texts, index, vocabulary_size=size, num_threads=bench.num_threads)


def _true(texts: pl.DataFrame, spec: TextScores) -> pl.DataFrame:
    """The true continuations as a frame of generations."""
    length = spec.generation.how.num_new_tokens
    return texts.select("context_id", "domain", token_ids=pl.col("truth_ids").list.head(length))


def _original_beside(
    spec: TextScores, index: TrainingRows, bench: Bench
) -> tuple[dict[str, Entry], dict[str, Any]]:
    """What the original model's texts share with the trial's training rows."""
    (baseline,) = map(bench.record, spec.follows)
    if baseline is None:
        return dict.fromkeys(ORIGINAL_SCORES, missing(NO_BASELINE)), {}
    return original_scores(bench.frame(baseline, "texts"), index, num_threads=bench.num_threads)


def _likeness(scored: pl.DataFrame, spec: TextScores, bench: Bench) -> Entry:
    """MAUVE of the generated texts against the true ones."""
    if scored["truth"].null_count() == len(scored):
        return missing(NO_TRUTH)
    true = scored["truth"].to_list()
    if bench.mauve_model is not None:
        from rayfit.generate.loading import load_tokenizer_and_config

        # As many tokens as were generated: the file has the true continuation whole.
        tokenizer, _ = load_tokenizer_and_config(bench.checkpoint(spec).path)
        true = tokenizer.batch_decode(_true(scored, spec)["token_ids"].to_list(), skip_special_tokens=True)
    return mauve(scored["text"].to_list(), true, model_path=bench.mauve_model).entry()
