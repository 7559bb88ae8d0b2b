"""Drawing one token per text with a random number of its own: nothing but logits and number decide."""

from __future__ import annotations

import hashlib
import math

import numpy as np
from numba import njit

from rayfit.decoding import Decoding


def uniforms(seed: int, context_id: str, num_steps: int) -> np.ndarray:
    """The random numbers of one generation, float64 [num_steps] in [0, 1): step t of a context uses number t.

    They follow from (seed, context id) through SHA-256 and Philox's raw bits, so they are the same on every
    machine, and those of a shorter generation are the beginning of those of a longer one.
    """
    key = hashlib.sha256(f"rayfit draw\0{seed}\0{context_id}".encode()).digest()
    bits = np.random.Philox(key=int.from_bytes(key[:16], "little")).random_raw(num_steps)
    return (bits >> np.uint64(11)) * 2.0**-53


def draw(scores: np.ndarray, numbers: np.ndarray, decoding: Decoding) -> np.ndarray:
    """One token id per row, int64 [rows], for float32 `scores` [rows, vocabulary] and `numbers` float64
    [rows].

    In float64: divide by the temperature, keep the top_k highest (ties to the lowest id), of these the fewest
    that hold top_p of their mass, or those of at least min_p times the highest probability; then walk the
    kept ids in ascending order until their mass exceeds number times the whole. Every row needs one finite
    score.
    """
    return _draw(
        np.ascontiguousarray(scores),
        numbers,
        float(decoding.temperature or 1.0),
        decoding.top_k or 0,
        1.0 if decoding.top_p is None else decoding.top_p,
        0.0 if decoding.min_p is None else decoding.min_p,
    )


@njit(cache=True, nogil=True)
def _draw(
    scores: np.ndarray, numbers: np.ndarray, temperature: float, top_k: int, top_p: float, min_p: float
) -> np.ndarray:
    rows, vocabulary = scores.shape
    out = np.empty(rows, dtype=np.int64)
    kept = np.empty(vocabulary, dtype=np.int64)
    mass = np.empty(vocabulary, dtype=np.float64)
    for row in range(rows):
        score = scores[row]
        limit = top_k if 0 < top_k < vocabulary else vocabulary
        count = _highest(score, limit, kept)
        total = _masses(score, temperature, kept, mass, count)
        if top_p < 1.0:
            if limit == vocabulary:
                count = _narrowed(score, temperature, kept, mass, count, top_p * total)
            count = _nucleus(kept, mass, count, top_p * total)
        if min_p > 0.0:
            count = _at_least(kept, mass, count, min_p)
        out[row] = _walk(kept[:count], mass[:count], numbers[row])
    return out


# In what follows `kept` holds ids in ascending order and `mass` theirs, both in front; the rest is room.


@njit(cache=True, nogil=True)
def _highest(score: np.ndarray, limit: int, kept: np.ndarray) -> int:
    """Write the ids of the `limit` highest finite scores, ties to the lowest ids; return how many."""
    bound, count = _lower_bound(score, limit), 0
    for token in range(score.size):
        kept[count] = token
        count += (score[token] >= bound) & (score[token] != -np.inf)
    if count <= limit:
        return count
    border = np.sort(score[kept[:count]])[count - limit]
    equals = limit
    for at in range(count):
        equals -= score[kept[at]] > border
    left = 0
    for at in range(count):
        value = score[kept[at]]
        if value > border or (value == border and equals > 0):
            equals -= value == border
            kept[left] = kept[at]
            left += 1
    return left


@njit(cache=True, nogil=True)
def _lower_bound(score: np.ndarray, limit: int) -> np.float32:
    """A score that `limit` ids or more reach: the `limit`-th highest of the maxima of more blocks than that.

    A pass over maxima leaves a hundred candidates for fifty places, where sorting would take all.
    """
    width = score.size // (limit + limit // 4 + 1)
    if width < 4:
        return np.float32(-np.inf)
    maxima = np.empty(score.size // width, dtype=np.float32)
    for block in range(maxima.size):
        part = score[block * width : (block + 1) * width]
        highest = part[0]
        for at in range(1, width):
            highest = part[at] if part[at] > highest else highest
        maxima[block] = highest
    return np.sort(maxima)[maxima.size - limit]


@njit(cache=True, nogil=True)
def _masses(score: np.ndarray, temperature: float, kept: np.ndarray, mass: np.ndarray, count: int) -> float:
    """Probabilities of the kept ids times a constant, the highest being 1; their sum."""
    highest = -np.inf
    for at in range(count):
        highest = max(highest, score[kept[at]])
    total = 0.0
    for at in range(count):
        mass[at] = math.exp((np.float64(score[kept[at]]) - highest) / temperature)
        total += mass[at]
    return total


@njit(cache=True, nogil=True)
def _narrowed(
    score: np.ndarray, temperature: float, kept: np.ndarray, mass: np.ndarray, count: int, wanted: float
) -> int:
    """Keep as many of the highest as surely hold `wanted`, which spares sorting the whole vocabulary."""
    limit = 64
    while limit < count:
        found = _highest(score, limit, kept)
        # a little more than wanted, as the order of summation differs
        if _masses(score, temperature, kept, mass, found) > wanted * (1.0 + 1e-9):
            return found
        limit *= 4
    found = _highest(score, score.size, kept)
    _masses(score, temperature, kept, mass, found)
    return found


@njit(cache=True, nogil=True)
def _nucleus(kept: np.ndarray, mass: np.ndarray, count: int, wanted: float) -> int:
    """Keep the fewest most probable ids that hold `wanted`, ties to the lowest ids; return how many."""
    order = np.argsort(-mass[:count], kind="mergesort")
    held, needed = 0.0, 0
    while needed < count and held < wanted:
        held += mass[order[needed]]
        needed += 1
    chosen = np.sort(order[:needed])
    for left in range(needed):
        kept[left], mass[left] = kept[chosen[left]], mass[chosen[left]]
    return needed


@njit(cache=True, nogil=True)
def _at_least(kept: np.ndarray, mass: np.ndarray, count: int, min_p: float) -> int:
    """Keep the ids of at least `min_p` times the highest probability, whose mass is 1; return how many."""
    left = 0
    for at in range(count):
        if mass[at] >= min_p:
            kept[left], mass[left] = kept[at], mass[at]
            left += 1
    return left


@njit(cache=True, nogil=True)
def _walk(kept: np.ndarray, mass: np.ndarray, number: float) -> int:
    """The first id at which the mass, summed along the ids, exceeds `number` of the whole."""
    goal, held, chosen = number * mass.sum(), 0.0, kept[0]
    for at in range(kept.size):
        if mass[at] > 0.0:
            chosen = kept[at]
            held += mass[at]
            if held > goal:
                break
    return chosen
