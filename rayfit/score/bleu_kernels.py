"""The compiled loops of BLEU: clipped n-gram matches against many references, and against sliding windows.

Arrays ahead. `grams`: n-gram ids of the scored texts, int32 (max_order, num_tokens_in_all), -1 for none or
unknown. `starts`, `documents`, `counts`: postings. `log_counts[m]`: ln(m), smoothed at 0. All logs
are natural, so that BLEU is exp(mean over n of (log_counts[matches_n] - log_counts[num_grams_n]) + log
brevity penalty).
"""

from __future__ import annotations

import numpy as np

from rayfit.score.compiled import compiled


@compiled
def number_grams(grams: np.ndarray, start: int, end: int, slots: np.ndarray) -> tuple[np.ndarray, ...]:
    """Number one text's distinct known n-grams from 1, and write that into `slots`, int16 (num_grams,).

    Returns (n-gram, order - 1, occurrences in the text), each indexed by that number; entry 0 is not used.
    `slots` must be all 0 before and is to be cleared by `forget_grams` after.
    """
    most = grams.shape[0] * (end - start) + 1
    gram_of = np.zeros(most, dtype=np.int64)
    order_of = np.zeros(most, dtype=np.int64)
    limits = np.zeros(most, dtype=np.int64)
    used = 1
    for n in range(grams.shape[0]):
        for i in range(start, end):
            gram = grams[n, i]
            if gram < 0:
                continue
            if slots[gram] == 0:
                slots[gram] = used
                gram_of[used] = gram
                order_of[used] = n
                used += 1
            limits[slots[gram]] += 1
    return gram_of[:used], order_of[:used], limits[:used]


@compiled
def forget_grams(gram_of: np.ndarray, slots: np.ndarray) -> None:
    for k in range(1, len(gram_of)):
        slots[gram_of[k]] = 0


@compiled
def add_matches(
    gram_of: np.ndarray,
    order_of: np.ndarray,
    limits: np.ndarray,
    starts: np.ndarray,
    documents: np.ndarray,
    counts: np.ndarray,
    matches: np.ndarray,
) -> None:
    """Clipped matches of one text with every document, into `matches`, int32 (max_order, num_documents)."""
    for k in range(1, len(gram_of)):
        row = matches[order_of[k]]
        limit = np.int32(limits[k])
        for p in range(starts[gram_of[k]], starts[gram_of[k] + 1]):
            row[documents[p]] += min(limit, counts[p])


@compiled
def best_pairwise(
    grams: np.ndarray,
    offsets: np.ndarray,
    groups: np.ndarray,
    starts: np.ndarray,
    documents: np.ndarray,
    counts: np.ndarray,
    log_counts: np.ndarray,
    first: int,
    last: int,
    best: np.ndarray,
) -> None:
    """ln of the highest BLEU of each text in [first, last) against another text of its group, into `best`."""
    num_texts, max_order = len(offsets) - 1, grams.shape[0]
    slots = np.zeros(len(starts) - 1, dtype=np.int16)
    matches = np.zeros((max_order, num_texts), dtype=np.int32)
    for text in range(first, last):
        length = offsets[text + 1] - offsets[text]
        if length < max_order:
            continue
        gram_of, order_of, limits = number_grams(grams, offsets[text], offsets[text + 1], slots)
        matches[:] = 0
        add_matches(gram_of, order_of, limits, starts, documents, counts, matches)
        forget_grams(gram_of, slots)
        for other in range(num_texts):
            if other == text or groups[other] != groups[text] or matches[0, other] == 0:
                continue
            total = 0.0
            for n in range(max_order):
                total += log_counts[matches[n, other]] - log_counts[length - n]
            reference_length = offsets[other + 1] - offsets[other]
            penalty = min(0.0, 1.0 - reference_length / length)
            best[text] = max(best[text], total / max_order + penalty)


@compiled
def best_in_windows(
    row_slots: np.ndarray, window: int, limits: np.ndarray, log_ratios: np.ndarray, floor: float
) -> float:
    """Highest sum over n of ln(precision) over all windows of one row, at least `floor`.

    `row_slots` is (max_order, num_tokens): the number of the text's n-gram that starts at each token, 0 for
    none. Each step of the window lets one n-gram of each order out and one in.
    """
    max_order, num_tokens = row_slots.shape
    present = np.zeros(len(limits), dtype=np.int64)
    matches = np.zeros(max_order, dtype=np.int64)
    for n in range(max_order):
        for i in range(window - n):
            k = row_slots[n, i]
            if k > 0:
                present[k] += 1
                matches[n] += present[k] <= limits[k]
    best = floor
    for start in range(num_tokens - window + 1):
        if start > 0:
            for n in range(max_order):
                k = row_slots[n, start - 1]
                if k > 0:
                    matches[n] -= present[k] <= limits[k]
                    present[k] -= 1
                k = row_slots[n, start + window - 1 - n]
                if k > 0:
                    present[k] += 1
                    matches[n] += present[k] <= limits[k]
        if matches[0] > 0:
            total = 0.0
            for n in range(max_order):
                total += log_ratios[n, matches[n]]
            best = max(best, total)
    return best


@compiled
def take_slots(row_grams: np.ndarray, start: int, end: int, slots: np.ndarray, row_slots: np.ndarray) -> None:
    """Numbers of the text's n-grams in one row; a longer n-gram is looked up only if its beginning is one."""
    for i in range(start, end):
        row_slots[:, i - start] = 0
        for n in range(row_grams.shape[0]):
            if i + n >= end:
                break
            k = slots[row_grams[n, i]]
            if k == 0:
                break
            row_slots[n, i - start] = k


@compiled
def best_windows(
    grams: np.ndarray,
    offsets: np.ndarray,
    row_grams: np.ndarray,
    row_offsets: np.ndarray,
    starts: np.ndarray,
    documents: np.ndarray,
    counts: np.ndarray,
    log_counts: np.ndarray,
    window: int,
    first: int,
    last: int,
    best: np.ndarray,
) -> None:
    """ln of the highest BLEU of each text in [first, last) against every window of every row, into `best`.

    The postings' documents are the rows. A text's clipped matches with a whole row bound those with each of
    its windows from above, so rows are visited from the highest bound down until no bound is above the best
    found.
    """
    num_rows, max_order = len(row_offsets) - 1, grams.shape[0]
    row_lengths = row_offsets[1:] - row_offsets[:-1]
    slots = np.zeros(len(starts) - 1, dtype=np.int16)
    matches = np.zeros((max_order, num_rows), dtype=np.int32)
    bounds = np.zeros(num_rows, dtype=np.float64)
    row_slots = np.zeros((max_order, row_lengths.max()), dtype=np.int16)
    for text in range(first, last):
        length = offsets[text + 1] - offsets[text]
        if length < max_order:
            continue
        log_ratios = np.zeros((max_order, length + 1), dtype=np.float64)
        for n in range(max_order):
            log_ratios[n] = log_counts[: length + 1] - log_counts[length - n]
        gram_of, order_of, limits = number_grams(grams, offsets[text], offsets[text + 1], slots)
        matches[:] = 0
        add_matches(gram_of, order_of, limits, starts, documents, counts, matches)
        for row in range(num_rows):
            comparable = matches[0, row] > 0 and row_lengths[row] >= window
            bounds[row] = 0.0 if comparable else -np.inf
            for n in range(max_order):
                bounds[row] += log_ratios[n, matches[n, row]]
        found = -np.inf
        for row in np.argsort(-bounds):
            if bounds[row] <= found:
                break
            take_slots(row_grams, row_offsets[row], row_offsets[row + 1], slots, row_slots)
            found = best_in_windows(row_slots[:, : row_lengths[row]], window, limits, log_ratios, found)
        forget_grams(gram_of, slots)
        best[text] = found / max_order + min(0.0, 1.0 - window / length)
