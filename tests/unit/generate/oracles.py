"""Slow and plain: what the blocker bans and what a draw chooses, straight from their definitions."""

from __future__ import annotations

import math
from collections.abc import Sequence


def brute_bans(
    rows: Sequence[list[int]], text: list[int], first: int, run: int, wait: str, starts: Sequence[bool]
) -> set[int]:
    """What may not follow `text`, of which the tokens from `first` on count; W2 carries a flag along."""

    def ends_of_matches(end: int) -> list[tuple[list[int], int]]:
        gram = text[end - run : end]
        places = [(row, at) for row in rows for at in range(run, len(row) + 1) if row[at - run : at] == gram]
        return places if end - run >= first else []

    following = {row[at] for row, at in ends_of_matches(len(text)) if at < len(row)}
    if wait == "W0":
        return following
    if wait == "W1":
        return {token for token in following if starts[token]}
    flagged: set[int] = set()
    for end in range(first, len(text) + 1):
        if end > first and starts[text[end - 1]]:
            flagged = set()
        for row, at in ends_of_matches(end):
            flagged |= set([token for token in row[at:] if starts[token]][:1])
    return flagged


def brute_long_run(rows: Sequence[list[int]], text: list[int], run: int) -> bool:
    """Whether more than `run` tokens in a row of `text` stand in one of the rows."""
    grams = {tuple(row[at : at + run + 1]) for row in rows for at in range(len(row) - run)}
    return any(tuple(text[at : at + run + 1]) in grams for at in range(len(text) - run))


def brute_draw(
    scores: Sequence[float], number: float, temperature: float, top_k: int, top_p: float, min_p: float
) -> int:
    """Temperature, then top-k, then top-p or min-p; then the kept ids in ascending order up to `number`."""
    order = sorted((-score, token) for token, score in enumerate(scores) if score > -math.inf)
    order = order[:top_k] if top_k else order
    weights = {token: math.exp((order[0][0] - negative) / temperature) for negative, token in order}
    total = math.fsum(weights.values())
    kept, held = [], 0.0
    for _, token in order:
        if held < top_p * total and weights[token] >= min_p:
            kept.append(token)
        held += weights[token]
    goal, held = number * math.fsum(weights[token] for token in kept), 0.0
    for token in sorted(kept):
        held += weights[token]
        if held > goal:
            return token
    return max(token for token in kept if weights[token] > 0)
