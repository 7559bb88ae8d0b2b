"""The result of a score for many texts: a value or a null for each, and in words why."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl


@dataclass(frozen=True)
class PerText:
    """One score of every text, in the order of the texts.

    `values`: polars column (num_texts,), null where the score was not measured, never 0 or -1 in its place.
    `notes`: polars string column (num_texts,): why a value is null, or what is unusual about one that is not
    (a text shorter than the window); null where there is nothing to say.
    """

    values: pl.Series
    notes: pl.Series


def per_text(name: str, values: np.ndarray, measured: np.ndarray, notes: pl.Series) -> PerText:
    """`values` where `measured`, null elsewhere."""
    column = pl.DataFrame({"value": values, "measured": measured}).select(
        pl.when("measured").then("value").alias(name)
    )
    return PerText(column[name], notes.alias("notes"))


def notes_where(unusual: np.ndarray, lengths: np.ndarray, why: str) -> pl.Series:
    """`"<length> tokens, <why>"` for each unusual text, null for the others."""
    frame = pl.DataFrame({"unusual": unusual, "length": lengths})
    return frame.select(notes=pl.when("unusual").then(pl.format("{} tokens, {}", "length", pl.lit(why))))[
        "notes"
    ]


def nothing_measured(name: str, num_texts: int, why: str) -> PerText:
    """Null for every text, all for one reason."""
    return PerText(
        pl.Series(name, [None], dtype=pl.Float64).new_from_index(0, num_texts),
        pl.Series("notes", [why], dtype=pl.String).new_from_index(0, num_texts),
    )
