"""Text scores by name, as records keep them, of one domain and of several joined.

An arm here is whatever one frame of texts is of, one checkpoint under one decoding; it is not a sweep's declared arm.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import polars as pl

from rayfit.columns import POOLED
from rayfit.errors import RayfitError
from rayfit.records.values import Entry
from rayfit.score.bleu import dataset_bleu, self_bleu
from rayfit.score.series import histogram_entry
from rayfit.score.statistics import bootstrap_mean
from rayfit.score.text import LONGEST_RUN, WINDOW, TrainingRows, aggregate_scores
from rayfit.score.tokens import token_texts

Entries: TypeAlias = dict[str, Entry]
"""Scores by their name in the registry, with 95% bootstrap intervals over texts."""


ORIGINAL_SCORES = (
    "original_longest_overlap_mean",
    "original_longest_overlap_share_above_5",
    "original_dataset_bleu_mean",
)
"""What `original_scores` gives."""


def arm_scores(scored: pl.DataFrame) -> Entries:
    """Aggregates of all texts of a frame that `score_texts` gave; of all its domains together if it has several.

    With the columns `steps_banned` and `steps_changed` (integers, null without a citation blocker) also
    `blocker_banned_share` and `blocker_changed_share`: shares of a text's steps, mean over texts.
    """
    pooled = aggregate_scores(scored).filter(pl.col("domain") == POOLED)
    found = {
        line["score"]: Entry(
            value=line["value"],
            low=line["low"],
            high=line["high"],
            count=line["num_texts"],
            reason=line["reason"],
        )
        for line in pooled.iter_rows(named=True)
    }
    lengths = scored["token_ids"].list.len()
    if "steps_banned" not in scored.columns or scored["steps_banned"].null_count() == len(scored):
        return found
    for name in ("banned", "changed"):
        # A text of no token had no step whose share could be told.
        shares = (scored[f"steps_{name}"] / lengths).fill_nan(None)
        found[f"blocker_{name}_share"] = bootstrap_mean(shares).entry()
    return found


def pool_scores(frames: Sequence[pl.DataFrame]) -> Entries:
    """`arm_scores` of several domains' texts together, each domain scored before on its own.

    What compares texts with each other (Self-BLEU) is computed anew over all of them; the rest is a text's own and
    is taken as it stands. So the result is that of scoring all texts in one frame, to the bit. `frames` are of one
    arm: one checkpoint and one decoding.

    Raises RayfitError without frames, for columns that differ, and for a context that stands there twice.
    """
    if not frames:
        raise RayfitError("pooled scores: there are no scored texts to pool")
    columns = frames[0].columns
    for frame in frames:
        differing = sorted({*frame.columns} ^ {*columns})
        if differing:
            raise RayfitError(f"pooled scores: not every domain has the columns {', '.join(differing)}")
    joined = pl.concat([frame.select(columns) for frame in frames], how="vertical_relaxed")
    if joined.select("domain", "context_id").is_duplicated().any():
        raise RayfitError("pooled scores: a context stands there twice; give one arm's texts, each once")
    texts = token_texts(joined["token_ids"], "token_ids")
    among_all = self_bleu(texts, window=WINDOW).values
    return arm_scores(joined.with_columns(self_bleu=among_all))


def original_scores(
    original: pl.DataFrame, rows: TrainingRows, *, num_threads: int = 1
) -> tuple[Entries, dict[str, Any]]:
    """The original model's texts beside one trial's training rows, which it never saw: what is there by chance.

    `original` has `token_ids`, the original's generations without a blocker. Gives the scores
    `original_longest_overlap_mean` (tokens), `original_longest_overlap_share_above_5` (share of texts; the paper's
    Table 5) and `original_dataset_bleu_mean` (the paper's Table 2), and the series
    `original_longest_overlap_histogram`, in the form of the trial's own (`text_series`; the paper's Figure 3).
    """
    texts = token_texts(original["token_ids"], "the original's token_ids")
    longest = rows.overlaps.longest_overlaps(texts).values
    bleu = dataset_bleu(texts, rows.windows, num_threads=num_threads).values
    values = (longest, longest > LONGEST_RUN, bleu)
    scores = {
        name: bootstrap_mean(column).entry() for name, column in zip(ORIGINAL_SCORES, values, strict=True)
    }
    return scores, {"original_longest_overlap_histogram": histogram_entry(longest)}
