"""BLEU on token ids: of texts against each other (Self-BLEU) and against the training rows (Dataset BLEU)."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import polars as pl

from rayfit.errors import RayfitError
from rayfit.score.bleu_kernels import best_pairwise, best_windows
from rayfit.score.ngrams import NgramTable, Postings, ngram_table, postings
from rayfit.score.per_text import PerText, notes_where, nothing_measured, per_text
from rayfit.score.tokens import Texts, TokenTexts, token_texts

MAX_ORDER = 4

EPSILON = 0.1
"""What smoothing method1 takes for a match count of 0 (nltk's `method1`, sacrebleu's `floor` 0.1)."""

LARGEST_WINDOW = 8_000


def self_bleu(
    texts: Texts,
    *,
    window: int = 96,
    groups: pl.Series | np.ndarray | None = None,
    num_threads: int = 1,
) -> PerText:
    """Self-BLEU of each text: the highest BLEU of its first `window` tokens against those of another text.

    Values are Float64 in [0, 1]; lower means that the texts differ more from each other. The paper's
    section 4.2, pairwise as its text says; BLEU-4 on token ids with smoothing method1 is our reading, as
    the paper gives none. With `groups` (num_texts,) a text is compared with those of its own group only (a
    domain).

    Null with a note: texts of fewer than 4 tokens (they still stand as references, unless empty), and texts
    with no other text beside them. Numbers do not depend on `num_threads` or on the order of the texts.

    >>> self_bleu([[1, 2, 3, 4], [1, 2, 3, 4], [5, 6, 7, 8]]).values.to_list()
    [1.0, 1.0, 0.0]

    Raises RayfitError for a window shorter than 4 tokens or longer than 8,000, and bad token ids.
    """
    _check(window)
    given = token_texts(texts).first(window)
    numbers = _group_numbers(groups, len(given))
    table, grams = ngram_table(given, MAX_ORDER)
    index = postings(table, grams, given)
    references = (numbers, index.starts, index.documents, index.counts)
    log_counts = _log_counts(window)
    best = np.full(len(given), -np.inf)
    _in_threads(
        lambda first, last: best_pairwise(grams, given.offsets, *references, log_counts, first, last, best),
        len(given),
        num_threads,
    )
    filled = given.lengths > 0
    alone = np.bincount(numbers[filled], minlength=numbers.max(initial=0) + 1)[numbers] < 2
    short = given.lengths < MAX_ORDER
    notes = _too_short(given).fill_null(
        notes_where(alone, given.lengths, "but no other text to compare with")
    )
    return per_text("self_bleu", np.exp(best), ~(short | alone), notes)


@dataclass(frozen=True)
class WindowIndex:
    """Every window of every training row, ready for `dataset_bleu`: made once, used for any number of texts.

    `window`: tokens of a window. `num_windows`: windows of all rows. `num_rows_without_window`: rows that
    are shorter than a window and so have none.
    """

    window: int
    num_windows: int
    num_rows_without_window: int
    table: NgramTable
    row_grams: np.ndarray
    row_offsets: np.ndarray
    postings: Postings


def window_index(rows: Texts, window: int = 96) -> WindowIndex:
    """The windows of `window` tokens of each of `rows` (no BOS in them), none over the border of two rows.

    Raises RayfitError without rows, for a window as `self_bleu`, and for bad token ids.
    """
    _check(window)
    given = token_texts(rows, "training rows")
    if not len(given):
        raise RayfitError("training rows: there are none")
    num_windows = np.maximum(given.lengths - window + 1, 0)
    table, row_grams = ngram_table(given, MAX_ORDER)
    return WindowIndex(
        window=window,
        num_windows=int(num_windows.sum()),
        num_rows_without_window=int((num_windows == 0).sum()),
        table=table,
        row_grams=row_grams,
        row_offsets=given.offsets,
        postings=postings(table, row_grams, given),
    )


def dataset_bleu(texts: Texts, rows: WindowIndex | Texts, *, num_threads: int = 1) -> PerText:
    """Dataset BLEU of each text: the highest BLEU of its first 96 tokens against any 96 tokens of a row.

    Values are Float64 in [0, 1]; higher means closer to the training rows; a text that stands in a row has
    1. Exact: every window is scored or proved to be no better. The paper's section 4.2; BLEU-4 on token ids
    with smoothing method1 and windows inside one row are our reading. `rows` without BOS, or a
    `window_index` of them (for another window length than 96, or several sets of texts). A text shorter
    than the window is compared with whole windows and pays BLEU's brevity penalty.

    Null with a note: texts of fewer than 4 tokens, and every text where no row has a window. Numbers do not
    depend on `num_threads`.

    Raises RayfitError without rows, and for bad token ids.
    """
    index = rows if isinstance(rows, WindowIndex) else window_index(rows)
    log_counts = _log_counts(index.window)
    given = token_texts(texts).first(index.window)
    if not index.num_windows:
        why = f"no training row has the {index.window} tokens of a window"
        return nothing_measured("dataset_bleu", len(given), why)
    grams = index.table.ids(given)
    found = index.postings
    row_side = (index.row_grams, index.row_offsets, found.starts, found.documents, found.counts)
    best = np.full(len(given), -np.inf)
    _in_threads(
        lambda first, last: best_windows(
            grams, given.offsets, *row_side, log_counts, index.window, first, last, best
        ),
        len(given),
        num_threads,
    )
    return per_text("dataset_bleu", np.exp(best), given.lengths >= MAX_ORDER, _too_short(given))


def _check(window: int) -> None:
    if not MAX_ORDER <= window <= LARGEST_WINDOW:
        raise RayfitError(f"window: expected {MAX_ORDER} to {LARGEST_WINDOW} tokens, got {window}")


def _too_short(texts: TokenTexts) -> pl.Series:
    return notes_where(texts.lengths < MAX_ORDER, texts.lengths, f"at least {MAX_ORDER} needed")


def _group_numbers(groups: pl.Series | np.ndarray | None, num_texts: int) -> np.ndarray:
    if groups is None:
        return np.zeros(num_texts, dtype=np.int64)
    if len(groups) != num_texts:
        raise RayfitError(f"groups: expected one for each of {num_texts} texts, got {len(groups)}")
    return np.unique(np.asarray(groups), return_inverse=True)[1].astype(np.int64)


def _log_counts(largest: int) -> np.ndarray:
    """ln of each match count from 0 to `largest`, of 0 what smoothing takes for it."""
    counts = np.arange(1, largest + 1, dtype=np.float64)
    return np.concatenate([[np.log(EPSILON)], np.log(counts)])


def _in_threads(work: Callable[[int, int], None], num_texts: int, num_threads: int) -> None:
    """`work(first, last)` over all texts, `num_threads` at a time; the kernels hold no interpreter lock."""
    if num_threads < 1:
        raise RayfitError(f"num_threads: expected 1 or more, got {num_threads}")
    # Texts differ in cost, so each thread takes several shares.
    borders = np.linspace(0, num_texts, (1 if num_threads == 1 else 4 * num_threads) + 1).astype(int).tolist()
    if num_threads == 1:
        work(0, num_texts)
        return
    with ThreadPoolExecutor(num_threads) as pool:
        list(pool.map(work, borders[:-1], borders[1:]))
