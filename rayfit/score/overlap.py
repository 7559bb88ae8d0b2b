"""Literal overlap: runs of a text that stand in the training rows, or earlier in the text itself."""

from __future__ import annotations

import numpy as np
import polars as pl

from rayfit.errors import RayfitError
from rayfit.score.automaton import build, earlier_runs, longest_matches
from rayfit.score.per_text import PerText, notes_where, per_text
from rayfit.score.tokens import Texts, token_texts

MOST_ROW_TOKENS = 2**29
"""Three edges per token must be countable in int32."""


class OverlapIndex:
    """Every run of tokens of every training row: made once, asked for any number of texts.

    Building is linear in the tokens of the rows, and so is memory: at most 120 bytes per token. No run
    crosses the border of two rows. `rows` without BOS. Raises RayfitError without rows and for bad token
    ids.
    """

    def __init__(self, rows: Texts) -> None:
        given = token_texts(rows, "training rows")
        if not len(given):
            raise RayfitError("training rows: there are none")
        num_tokens = len(given.tokens)
        if num_tokens >= MOST_ROW_TOKENS:
            raise RayfitError(f"training rows: {num_tokens} tokens are more than the index holds")
        states = np.empty((2 * num_tokens + 1, 3), dtype=np.int32)
        edges = np.empty((3 * num_tokens + 1, 4), dtype=np.int32)
        # At most half full, so that a search meets a free slot soon.
        self._slots = np.empty(1 << (6 * num_tokens + 1).bit_length(), dtype=np.int32)
        num_states, num_edges = build(given.tokens, given.offsets, states, edges, self._slots)
        self._states, self._edges = states[:num_states].copy(), edges[:num_edges].copy()

    def match_lengths(self, texts: Texts) -> np.ndarray:
        """Return, for each token of all texts one after another, the longest run ending there that stands in a row.

        int64 (num_tokens_in_all,), 0 and up; within one text it grows by at most 1 from token to token.
        """
        given = token_texts(texts)
        return longest_matches(given.tokens, given.offsets, self._states, self._edges, self._slots)

    def longest_overlaps(self, texts: Texts) -> PerText:
        """Length of each text's longest contiguous run of tokens that stands in a row.

        Values are Int64, in tokens, from 0 to the length of the text; lower is less citation. Empty texts are
        null with a note. Source: the paper's section 4.2 and Figure 3; on token ids, inside one row, generated
        part only.
        """
        given = token_texts(texts)
        filled = given.lengths > 0
        longest = np.zeros(len(given), dtype=np.int64)
        if filled.any():
            longest[filled] = np.maximum.reduceat(self.match_lengths(given), given.offsets[:-1][filled])
        notes = notes_where(~filled, given.lengths, "nothing was generated")
        return per_text("longest_overlap", longest, filled, notes)


def repeated_runs(texts: Texts) -> list[np.ndarray]:
    """Return, for each token, the longest run ending there that already ended earlier in the same text.

    One int64 array per text, as long as it; 0 for a token that is new. The earlier run may overlap the
    later one, so a loop counts up. This is what colours repetition in the paper's Figure 1. Work is
    quadratic in the length of a text, which for generated texts (hundreds of tokens) is microseconds.

    >>> [runs.tolist() for runs in repeated_runs([[1, 2, 3, 1, 2, 4]])]
    [[0, 0, 0, 1, 2, 0]]

    Raises RayfitError for bad token ids.
    """
    given = token_texts(texts)
    return np.split(earlier_runs(given.tokens, given.offsets), given.offsets[1:-1])[: len(given)]


def overlap_histogram(longest: pl.Series) -> pl.DataFrame:
    """Texts by longest overlap: `longest_overlap` (Int64, ascending, only lengths that occur), `num_texts` (Int64)."""
    measured = longest.drop_nulls().cast(pl.Int64).alias("longest_overlap")
    counted = measured.value_counts(name="num_texts").sort("longest_overlap")
    return counted.cast({"num_texts": pl.Int64})
