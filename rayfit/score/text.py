"""All text scores of one arm's generations as columns of its frame, and their means per domain and pooled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Literal

import polars as pl

from rayfit.columns import POOLED
from rayfit.errors import RayfitError
from rayfit.score.bleu import WindowIndex, dataset_bleu, self_bleu, window_index
from rayfit.score.overlap import OverlapIndex
from rayfit.score.per_text import PerText, nothing_measured
from rayfit.score.repetition import loop_period, repeated_ngrams, ttr
from rayfit.score.statistics import Estimate, bootstrap_mean
from rayfit.score.tokens import Texts, TokenTexts, check_vocabulary, drop_leading, token_texts

WINDOW = 96
"""Tokens of the windows that the paper's TTR and BLEU scores look at; part of the names of the scores."""

LONGEST_RUN = 5
"""Tokens of the longest run of the rows that does not count as a citation (the paper's sections 3 and B.2)."""


@dataclass(frozen=True)
class TrainingRows:
    """One trial's training rows, ready to be compared with the texts of any number of arms."""

    windows: WindowIndex
    overlaps: OverlapIndex


def index_rows(rows: Texts, bos_id: int | None = None, *, vocabulary_size: int | None = None) -> TrainingRows:
    """Index `rows`, without their first token where it is `bos_id` (a text never begins with it).

    Raises RayfitError without rows, for bad token ids, and for ids that `vocabulary_size` entries do not hold.
    """
    bare = drop_leading(token_texts(rows, "training rows"), bos_id)
    if vocabulary_size is not None:
        check_vocabulary(bare, vocabulary_size, "training rows")
    return TrainingRows(window_index(bare, WINDOW), OverlapIndex(bare))


@dataclass(frozen=True)
class TextInput:
    """What a score of texts is given: all texts of one checkpoint under one decoding, in the order of the contexts.

    `domains`: string, one per text. `rows`: the trial's training rows, None for texts that are compared with none.
    """

    texts: TokenTexts
    domains: pl.Series
    rows: TrainingRows | None
    num_threads: int = 1


def _dataset_bleu(given: TextInput) -> PerText:
    if given.rows is None:
        return nothing_measured("dataset_bleu", len(given.texts), _NO_ROWS)
    return dataset_bleu(given.texts, given.rows.windows, num_threads=given.num_threads)


def _longest_overlap(given: TextInput) -> PerText:
    if given.rows is None:
        absent = nothing_measured("longest_overlap", len(given.texts), _NO_ROWS)
        return PerText(absent.values.cast(pl.Int64), absent.notes)
    return given.rows.overlaps.longest_overlaps(given.texts)


def _self_bleu(given: TextInput, groups: pl.Series | None = None) -> PerText:
    return self_bleu(given.texts, window=WINDOW, groups=groups, num_threads=given.num_threads)


_NO_ROWS = "no training rows to compare with"

TEXT_SCORES: dict[str, Callable[[TextInput], PerText]] = {
    "ttr_first_96": lambda given: ttr(given.texts, WINDOW, "first"),
    "ttr_last_96": lambda given: ttr(given.texts, WINDOW, "last"),
    "rep_2": lambda given: repeated_ngrams(given.texts, 2),
    "rep_3": lambda given: repeated_ngrams(given.texts, 3),
    "rep_4": lambda given: repeated_ngrams(given.texts, 4),
    "loop_period": lambda given: loop_period(given.texts),
    "self_bleu": _self_bleu,
    "self_bleu_in_domain": lambda given: _self_bleu(given, given.domains),
    "dataset_bleu": _dataset_bleu,
    "longest_overlap": _longest_overlap,
}
"""Every score of a text: a value, or a null and why, for each of the texts that are given."""


def score_texts(
    generations: pl.DataFrame,
    rows: TrainingRows | Texts | None = None,
    *,
    vocabulary_size: int | None = None,
    num_threads: int = 1,
) -> pl.DataFrame:
    """The frame of one arm (one checkpoint under one decoding) with one more column per text score.

    `generations` has `context_id`, `domain` (string) and `token_ids` (list of integers: the generated part,
    no BOS), one row per context; further columns are kept. `rows` (no BOS, or `index_rows` of them) are the
    training rows of the trial to compare with. New columns, as `rayfit.scores.SCORES` explains them: Float64
    `ttr_first_96`, `ttr_last_96`, `rep_2`, `rep_3`, `rep_4`, `self_bleu`, `self_bleu_in_domain`,
    `dataset_bleu`; Boolean `ends_in_loop`, `exceeded_run`; Int64 `loop_period`, `longest_overlap`; String
    `score_notes`, which says of each null why, and which texts were shorter than the window. Without `rows`,
    `dataset_bleu`, `longest_overlap` and `exceeded_run` are null with that reason.

    Raises RayfitError for missing columns, a missing or repeated context or domain, and bad token ids.
    """
    _check_frame(generations)
    texts = token_texts(generations["token_ids"], "token_ids")
    if vocabulary_size is not None:
        check_vocabulary(texts, vocabulary_size, "token_ids")
    if rows is not None and not isinstance(rows, TrainingRows):
        rows = index_rows(rows, vocabulary_size=vocabulary_size)
    given = TextInput(texts, generations["domain"], rows, num_threads)
    scores = {name: score(given) for name, score in TEXT_SCORES.items()}
    loops = scores["loop_period"]
    in_loop = pl.select(
        pl.when(loops.notes.is_null()).then(loops.values.is_not_null()).alias("ends_in_loop")
    ).to_series()
    exceeded = (scores["longest_overlap"].values > LONGEST_RUN).alias("exceeded_run")
    return generations.with_columns(
        *(result.values.alias(name) for name, result in scores.items()),
        in_loop,
        exceeded,
        _joined_notes(scores),
    )


@dataclass(frozen=True)
class Aggregate:
    """One number of many texts: `how` applied to `column` of a scored frame, by its name in the registry."""

    name: str
    column: str
    how: Literal["mean", "max", "above_10"] = "mean"


AGGREGATES = (
    *(Aggregate(name, name) for name in ("ttr_first_96", "ttr_last_96", "rep_2", "rep_3", "rep_4")),
    Aggregate("loop_share", "ends_in_loop"),
    Aggregate("loop_period_mean", "loop_period"),
    Aggregate("self_bleu_mean", "self_bleu"),
    Aggregate("self_bleu_max", "self_bleu", "max"),
    Aggregate("dataset_bleu_mean", "dataset_bleu"),
    Aggregate("dataset_bleu_max", "dataset_bleu", "max"),
    Aggregate("longest_overlap_mean", "longest_overlap"),
    Aggregate("longest_overlap_max", "longest_overlap", "max"),
    Aggregate("longest_overlap_share_above_5", "exceeded_run"),
    Aggregate("longest_overlap_share_above_10", "longest_overlap", "above_10"),
)


def aggregate_scores(scored: pl.DataFrame) -> pl.DataFrame:
    """Means, maxima and shares of what `score_texts` gave, for each domain and for all together (`pooled`).

    Columns: `domain`, `score` (a name in the registry), `value`, `low`, `high` (95% bootstrap interval over
    texts; maxima have none), `num_texts`, `num_missing` (texts left out because their score is
    null), `reason` (why a number of this row is null). A domain's Self-BLEU is that among its own texts,
    the pooled one that among all.

    Raises RayfitError for a frame without the columns of `score_texts`.
    """
    absent = [name for name in {each.column: None for each in AGGREGATES} if name not in scored.columns]
    if absent:
        raise RayfitError(
            f"scored texts: no column {', '.join(absent)}; give the frame that score_texts returns"
        )
    groups = {
        str(domain): part.with_columns(self_bleu="self_bleu_in_domain")
        for (domain,), part in scored.partition_by("domain", as_dict=True, maintain_order=True).items()
    }
    lines = [
        {"domain": domain, "score": each.name, **asdict(_aggregate(part, each))}
        for domain, part in {**groups, POOLED: scored}.items()
        for each in AGGREGATES
    ]
    real = dict.fromkeys(("value", "low", "high"), pl.Float64)
    count = dict.fromkeys(("num_texts", "num_missing"), pl.Int64)
    text = dict.fromkeys(("domain", "score"), pl.String)
    return pl.DataFrame(lines, schema={**text, **real, **count, "reason": pl.String})


def _aggregate(part: pl.DataFrame, wanted: Aggregate) -> Estimate:
    if wanted.column == "loop_period":
        # A text without a loop has no period: it is not a text whose period is missing.
        part = part.filter(pl.col("ends_in_loop").is_null() | pl.col("ends_in_loop"))
    values = part[wanted.column]
    if wanted.how == "mean":
        return bootstrap_mean(values)
    if wanted.how == "max":
        highest = values.cast(pl.Float64).max()
        reason = "no text was measured" if highest is None else "a maximum has no interval"
        highest = highest if isinstance(highest, float) else None
        return Estimate(highest, None, None, values.count(), values.null_count(), reason)
    return bootstrap_mean(values > 10)


def _check_frame(generations: pl.DataFrame) -> None:
    needed = ("context_id", "domain", "token_ids")
    absent = [name for name in needed if name not in generations.columns]
    if absent:
        raise RayfitError(f"generations: no column {', '.join(absent)}; needed are {', '.join(needed)}")
    keys = generations.select("domain", "context_id")
    if keys["domain"].null_count() or keys["context_id"].null_count():
        raise RayfitError("generations: a context_id or a domain is missing (null)")
    if POOLED in keys["domain"].unique().cast(pl.String):
        raise RayfitError(f"generations: a domain may not be called {POOLED!r}, the name of all together")
    if keys.is_duplicated().any():
        twice = keys.filter(keys.is_duplicated()).row(0)
        raise RayfitError(
            f"generations: context {twice[1]!r} of domain {twice[0]!r} stands there twice; "
            "score each checkpoint and decoding on its own"
        )


def _joined_notes(scores: dict[str, PerText]) -> pl.Series:
    """All notes of a text in one string, each with the name of its score; null where there are none."""
    notes = pl.DataFrame({name: result.notes for name, result in scores.items()})
    labelled = [pl.format(f"{name}: {{}}", pl.col(name)) for name in scores]
    joined = pl.concat_str(labelled, separator="; ", ignore_nulls=True)
    return notes.select(score_notes=pl.when(joined != "").then(joined))["score_notes"]
