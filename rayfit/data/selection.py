"""The choice of spans: training samples, validation rows and evaluation contexts, by seeded nested draws."""

from __future__ import annotations

import polars as pl

from rayfit.data.spans import rank_key
from rayfit.errors import RayfitError


def _ranked(spans: pl.DataFrame, *purpose: str | int) -> pl.DataFrame:
    name, *rest = purpose
    keys = [
        rank_key(str(name), *rest, document, start)
        for document, start in spans.select("document", "start").iter_rows()
    ]
    return spans.with_columns(pl.Series("key", keys, dtype=pl.String)).sort("key").drop("key")


def _take(ranked: pl.DataFrame) -> pl.DataFrame:
    return ranked.select("document", "start", "end", "text").with_row_index("position")


def draw_samples(spans: pl.DataFrame, num_samples: int, sample_seed: int) -> pl.DataFrame:
    """`num_samples` training spans: the first of one seeded ranking, so that smaller draws are within larger ones.

    Returns columns position (0-based, the row's number in every order), document, start, end, text.
    Raises RayfitError when the training documents give too few spans.
    """
    training = spans.filter(pl.col("split") == "train")
    if num_samples > len(training):
        raise RayfitError(
            f"samples: {num_samples} asked for, but the training documents give {len(training)} spans; "
            "ask for fewer, lower --span-characters or --held-out-share, or give more text"
        )
    return _take(_ranked(training, "samples", sample_seed).head(num_samples))


def draw_held_out(
    spans: pl.DataFrame, *, num_contexts: int, num_validation: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Evaluation contexts and validation rows, disjoint, from held-out documents: (contexts, validation).

    One fixed ranking serves both, contexts from its front and validation rows from its back, so that asking for
    more of one leaves the other as it was. Raises RayfitError, with the numbers, when there is too little text.
    """
    held_out = spans.filter(pl.col("split") == "held_out")
    if num_contexts + num_validation > len(held_out):
        dropped = spans.filter(pl.col("split") == "near_duplicate").height
        raise RayfitError(
            f"contexts and validation_rows: {num_contexts} + {num_validation} asked for, but the held-out documents "
            f"give {len(held_out)} spans ({dropped} more were dropped as near-duplicates of training text); "
            "ask for fewer, raise --held-out-share, lower --span-characters, or give more text"
        )
    ranked = _ranked(held_out, "evaluation")
    return _take(ranked.head(num_contexts)), _take(ranked.reverse().head(num_validation))


def draw_further(
    spans: pl.DataFrame, *, num_contexts: int, num_validation: int, num_further: int
) -> pl.DataFrame:
    """Return at most `num_further` held-out spans that are neither contexts nor validation rows of `draw_held_out`.

    They follow the contexts in the same ranking. Raises RayfitError where there is none left.
    """
    ranked = _ranked(spans.filter(pl.col("split") == "held_out"), "evaluation")
    left = ranked.slice(num_contexts, max(0, len(ranked) - num_contexts - num_validation))
    if left.is_empty():
        raise RayfitError(
            f"further_contexts: the {len(ranked)} held-out spans are all contexts ({num_contexts}) or validation rows "
            f"({num_validation}); ask for fewer of these, raise --held-out-share, or give more text"
        )
    return _take(left.head(num_further))
