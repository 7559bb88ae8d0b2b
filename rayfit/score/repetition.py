"""Repetition inside one text: type-token ratio, repeated n-grams, and ending in an exact loop."""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl

from rayfit.errors import RayfitError, unknown
from rayfit.score.compiled import compiled
from rayfit.score.ngrams import ngram_table
from rayfit.score.per_text import PerText, notes_where, per_text
from rayfit.score.tokens import Texts, token_texts

SHORTEST_LOOP = 12
"""A text ends in a loop only if at least this many of its last tokens repeat."""


def ttr(texts: Texts, window: int = 96, which: Literal["last", "first"] = "last") -> PerText:
    """Type-token ratio of each text: distinct over all token ids among its last (or first) `window` tokens.

    Values are Float64 in (0, 1]; higher is more diverse. A text shorter than the window is divided by its
    true length and carries a note; an empty one is null. Source: the paper's sections 4 and A.1 (last 96),
    6.3 (first 96).

    >>> ttr([[5, 5, 7, 7]], window=4).values.to_list()
    [0.5]

    Raises RayfitError for a window below 1 and for bad token ids.
    """
    _check_window(window)
    if which not in ("last", "first"):
        raise unknown("which", str(which), ("last", "first"))
    given = token_texts(texts)
    ids, num_ids = _dense(given.tokens)
    taken = np.minimum(given.lengths, window)
    starts = given.offsets[1:] - taken if which == "last" else given.offsets[:-1]
    distinct = _distinct_in_spans(ids, starts, starts + taken, num_ids)
    notes = notes_where(given.lengths < window, given.lengths, f"fewer than the window of {window}")
    return per_text(f"ttr_{which}_{window}", distinct / np.maximum(taken, 1), taken > 0, notes)


def ttr_by_position(texts: Texts, window: int = 96) -> pl.DataFrame:
    """TTR of the most recent `window` tokens after each generated token, averaged over texts (Figure 9).

    Columns: `position` (Int64, tokens generated so far, from `window` on), `ttr` (Float64 in (0, 1], higher
    is more diverse), `num_texts` (Int64, texts that reach this position). Texts shorter than the window
    have no part in it; where all are, the frame is empty. Work is linear in the tokens.

    Raises RayfitError for a window below 1 and for bad token ids.
    """
    _check_window(window)
    given = token_texts(texts)
    ids, num_ids = _dense(given.tokens)
    num_positions = max(int(given.lengths.max(initial=0)) - window + 1, 0)
    distinct, num_texts = _distinct_by_position(ids, given.offsets, window, num_positions, num_ids)
    return pl.DataFrame(
        {
            "position": np.arange(num_positions, dtype=np.int64) + window,
            "ttr": distinct / (window * np.maximum(num_texts, 1)),
            "num_texts": num_texts,
        }
    )


def repeated_ngrams(texts: Texts, order: int) -> PerText:
    """rep-n of each text: 1 minus distinct over all n-grams of the whole text, n = `order`.

    Values are Float64 in [0, 1); lower is less repetitive. Texts of fewer than `order` tokens are null with
    a note. Source: not in the paper; the usual rep-n of its follow-up and of work on degenerate text.

    >>> repeated_ngrams([[1, 2, 1, 2, 1]], order=2).values.to_list()
    [0.5]

    Raises RayfitError for an order below 1 and for bad token ids.
    """
    if order < 1:
        raise RayfitError(f"order: expected 1 or more, got {order}")
    given = token_texts(texts)
    table, ids = ngram_table(given, order)
    total = np.maximum(given.lengths - order + 1, 0)
    starts = given.offsets[:-1]
    distinct = _distinct_in_spans(ids[order - 1], starts, starts + total, table.num_grams)
    notes = notes_where(total == 0, given.lengths, f"at least {order} needed")
    return per_text(f"rep_{order}", 1.0 - distinct / np.maximum(total, 1), total > 0, notes)


def loop_period(texts: Texts) -> PerText:
    """Period, in tokens, of the exact loop that a text ends in.

    A text ends in a loop of period p if its last max(3p, 12) tokens have smallest period p; where several p
    do (a loop within a loop), the smallest counts, and p is at most a third of the text. Values are Int64,
    1 and up; null without a note where the text ends in no loop, null with a note where it has fewer than
    12 tokens and cannot tell. The share of texts that end in a loop (lower is better) is the share of
    non-null values. Source: not in the paper; its section A.1 names loops as what makes TTR fall.

    >>> loop_period([[9, 8] + [1, 2, 3] * 5]).values.to_list()
    [3]

    Raises RayfitError for bad token ids.
    """
    given = token_texts(texts)
    periods = _loop_periods(given.tokens, given.offsets, SHORTEST_LOOP)
    short = given.lengths < SHORTEST_LOOP
    notes = notes_where(short, given.lengths, f"at least {SHORTEST_LOOP} needed to tell a loop")
    return per_text("loop_period", periods, periods > 0, notes)


def _check_window(window: int) -> None:
    if window < 1:
        raise RayfitError(f"window: expected 1 or more tokens, got {window}")


def _dense(tokens: np.ndarray) -> tuple[np.ndarray, int]:
    """Token ids renumbered from 0, so that one small array can hold something for each."""
    distinct, ids = np.unique(tokens, return_inverse=True)
    return ids.astype(np.int32), len(distinct)


@compiled
def _distinct_in_spans(ids: np.ndarray, starts: np.ndarray, ends: np.ndarray, num_ids: int) -> np.ndarray:
    distinct = np.zeros(len(starts), dtype=np.int64)
    last_span = np.full(num_ids, -1, dtype=np.int64)
    for span in range(len(starts)):
        for i in range(starts[span], ends[span]):
            if last_span[ids[i]] != span:
                last_span[ids[i]] = span
                distinct[span] += 1
    return distinct


@compiled
def _distinct_by_position(
    ids: np.ndarray, offsets: np.ndarray, window: int, num_positions: int, num_ids: int
) -> tuple[np.ndarray, np.ndarray]:
    sums = np.zeros(num_positions, dtype=np.int64)
    num_texts = np.zeros(num_positions, dtype=np.int64)
    counts = np.zeros(num_ids, dtype=np.int64)
    for text in range(len(offsets) - 1):
        start, end = offsets[text], offsets[text + 1]
        distinct = 0
        for i in range(start, end):
            counts[ids[i]] += 1
            if counts[ids[i]] == 1:
                distinct += 1
            if i - start >= window:
                left = ids[i - window]
                counts[left] -= 1
                if counts[left] == 0:
                    distinct -= 1
            if i - start >= window - 1:
                sums[i - start - window + 1] += distinct
                num_texts[i - start - window + 1] += 1
        for i in range(start, end):
            counts[ids[i]] = 0
    return sums, num_texts


@compiled
def _loop_periods(tokens: np.ndarray, offsets: np.ndarray, shortest: int) -> np.ndarray:
    """Smallest period of each text's end, 0 for none.

    The first p that repeats over its last max(3p, shortest) tokens needs no check for a smaller period of
    the same tokens: that one would have been met before, over fewer tokens.
    """
    periods = np.zeros(len(offsets) - 1, dtype=np.int64)
    for text in range(len(offsets) - 1):
        start, end = offsets[text], offsets[text + 1]
        for period in range(1, (end - start) // 3 + 1):
            run = max(3 * period, shortest)
            if run > end - start:
                break
            i = end - run + period
            while i < end and tokens[i] == tokens[i - period]:
                i += 1
            if i == end:
                periods[text] = period
                break
    return periods
