"""The definitions of the scores, spelled out slowly: what the fast code is compared with."""

from __future__ import annotations

import warnings

from hypothesis import settings
from hypothesis import strategies as st
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

# Compilation happens inside the first example, so there is no deadline.
examples = settings(max_examples=80, deadline=None, derandomize=True)


def texts(shortest: int, longest: int, most: int = 6, ids: int = 5) -> st.SearchStrategy[list[list[int]]]:
    """A few texts over a small vocabulary, so that runs repeat; no id equals its rank."""
    token = st.integers(0, ids - 1).map(lambda i: 7 + 1000 * i)
    return st.lists(st.lists(token, min_size=shortest, max_size=longest), min_size=1, max_size=most)


def grams(text: list[int], n: int) -> list[tuple[int, ...]]:
    return [tuple(text[i : i + n]) for i in range(len(text) - n + 1)]


def nltk_bleu(text: list[int], references: list[list[int]]) -> float:
    smooth = SmoothingFunction(epsilon=0.1).method1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return sentence_bleu(references, text, smoothing_function=smooth)


def windows(rows: list[list[int]], window: int) -> list[list[int]]:
    return [row[i : i + window] for row in rows for i in range(len(row) - window + 1)]


def longest_overlap(text: list[int], rows: list[list[int]]) -> int:
    runs = {tuple(row[i:j]) for row in rows for i in range(len(row)) for j in range(i + 1, len(row) + 1)}
    return max(
        (j - i for i in range(len(text)) for j in range(i + 1, len(text) + 1) if tuple(text[i:j]) in runs),
        default=0,
    )


def repeated_runs(text: list[int]) -> list[int]:
    longest = []
    for end in range(1, len(text) + 1):
        longest.append(
            max(
                (n for j in range(1, end) for n in range(1, j + 1) if text[j - n : j] == text[end - n : end]),
                default=0,
            )
        )
    return longest


def loop_period(text: list[int]) -> int | None:
    def smallest_period(run: list[int]) -> int:
        return next(
            q for q in range(1, len(run) + 1) if all(run[i] == run[i - q] for i in range(q, len(run)))
        )

    for p in range(1, len(text) // 3 + 1):
        run = text[-max(3 * p, 12) :]
        if len(run) == max(3 * p, 12) and smallest_period(run) == p:
            return p
    return None
