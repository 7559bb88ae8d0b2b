"""Curves and histograms of one arm's texts, which a mean cannot show, in the form in which records keep them."""

from __future__ import annotations

from typing import Any

import polars as pl

from rayfit.errors import RayfitError
from rayfit.score.overlap import overlap_histogram
from rayfit.score.repetition import ttr_by_position
from rayfit.score.text import WINDOW


def text_series(scored: pl.DataFrame) -> dict[str, Any]:
    """Curves and histograms of a frame that `score_texts` gave, ready to be written as JSON.

    `ttr_by_position`: {"first_position", "values"}: the mean over texts of the TTR (0 to 1, higher is more
    diverse) of the last 96 generated tokens, after 96 generated tokens, 97 and so on (Figure 9); empty where no
    text has 96. A text that is over has no part in what follows. `longest_overlap_histogram`: number of texts by
    the length, in tokens, of their longest run that stands in the training rows, only lengths that occur, in
    ascending order (Figure 3); None where no text was compared with rows.

    Raises RayfitError for a frame without `token_ids` or `longest_overlap`.
    """
    absent = [name for name in ("token_ids", "longest_overlap") if name not in scored.columns]
    if absent:
        raise RayfitError(
            f"scored texts: no column {', '.join(absent)}; give the frame that score_texts returns"
        )
    curve = ttr_by_position(scored["token_ids"], WINDOW)
    return {
        "ttr_by_position": {"first_position": WINDOW, "values": curve["ttr"].to_list()},
        "longest_overlap_histogram": histogram_entry(scored["longest_overlap"]),
    }


def histogram_entry(longest: pl.Series) -> dict[str, int] | None:
    """Number of texts by longest overlap, as `text_series` gives it; None where no text was measured.

    >>> histogram_entry(pl.Series([10, 2, None, 2]))
    {'2': 2, '10': 1}
    """
    counted = overlap_histogram(longest)
    return {str(length): num_texts for length, num_texts in counted.iter_rows()} or None
