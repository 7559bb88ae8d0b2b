"""Means of scores with bootstrap intervals, and paired differences between two arms of an experiment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from rayfit.errors import RayfitError
from rayfit.records.values import Entry

NUM_RESAMPLES = 2_000
_DRAWS_AT_ONCE = 4_000_000
"""Resampled values held in memory together."""


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval, or nulls with a `reason`.

    `value`, `low`, `high` are in the unit of the score. `num_texts` texts were measured, `num_missing` were
    not (their score is null). `reason` says why the value, or the interval alone, is None.
    """

    value: float | None
    low: float | None
    high: float | None
    num_texts: int
    num_missing: int
    reason: str | None = None

    def entry(self) -> Entry:
        """The estimate as records keep it, without the number of texts that were not measured."""
        return Entry(value=self.value, low=self.low, high=self.high, count=self.num_texts, reason=self.reason)


def bootstrap_mean(
    values: pl.Series | np.ndarray | Sequence[Any],
    *,
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
    level: float = 0.95,
) -> Estimate:
    """Mean of `values` with the percentile bootstrap interval over texts.

    `values`: numbers or booleans (then the mean is a share), null (None) where a text was not measured;
    nulls are left out and counted. `num_resamples` sets of as many texts are drawn with replacement from
    generator `seed`; low and high are the (1 - level) / 2 and (1 + level) / 2 quantiles of their means. The
    same values, seed and numpy give the same bits. One text has a mean but no interval; no text has
    neither, nor have texts of which one is infinite.

    Raises RayfitError for NaN (a number that was not measured is None), a level outside (0, 1) and no
    resamples.
    """
    if not 0 < level < 1:
        raise RayfitError(f"level: expected a share between 0 and 1, got {level}")
    if num_resamples < 1:
        raise RayfitError(f"num_resamples: expected 1 or more, got {num_resamples}")
    column = _as_column(values)
    measured = column.drop_nulls().to_numpy()
    num, num_missing = len(measured), column.null_count()
    if num == 0:
        return Estimate(None, None, None, 0, num_missing, "no text was measured")
    if num_infinite := int(np.isinf(measured).sum()):
        return Estimate(None, None, None, num, num_missing, f"infinite for {num_infinite} of {num} texts")
    mean = float(measured.mean())
    if num == 1:
        return Estimate(mean, None, None, 1, num_missing, "one text has no interval")
    means = _resampled_means(measured, seed, num_resamples)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(mean, float(low), float(high), num, num_missing)


def paired_difference(
    left: pl.Series | np.ndarray | Sequence[Any],
    right: pl.Series | np.ndarray | Sequence[Any],
    *,
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
    level: float = 0.95,
) -> Estimate:
    """Mean of `left` - `right`, text by text, with its bootstrap interval; contexts are resampled as pairs.

    Place i of both belongs to one context. A pair with a null on either side is left out and counted. Raises
    RayfitError for sides of different lengths, and as `bootstrap_mean`.
    """
    if len(left) != len(right):
        raise RayfitError(f"paired difference: {len(left)} texts on one side, {len(right)} on the other")
    # Of two infinite sides the difference is NaN, which would be refused as a mistake.
    difference = (_as_column(left) - _as_column(right)).fill_nan(float("inf"))
    return bootstrap_mean(difference, seed=seed, num_resamples=num_resamples, level=level)


def paired_on_contexts(left: pl.DataFrame, right: pl.DataFrame, score: str, *, seed: int = 0) -> Estimate:
    """`paired_difference` of column `score` of two arms' frames, joined on `domain` and `context_id`.

    Contexts that only one arm has count as missing. Raises RayfitError for a missing column and for an arm
    that has a context twice.
    """
    keys = ["domain", "context_id"]
    for side, frame in (("left", left), ("right", right)):
        absent = [name for name in [*keys, score] if name not in frame.columns]
        if absent:
            raise RayfitError(f"{side} arm: no column {', '.join(absent)}; it has {', '.join(frame.columns)}")
        if frame.select(keys).is_duplicated().any():
            raise RayfitError(f"{side} arm: a context stands there twice; give one text per context and arm")
    both = (
        left.select(*keys, left=score)
        .join(right.select(*keys, right=score), on=keys, how="full", coalesce=True)
        # The join promises no order, and the resampling depends on it.
        .sort(keys)
    )
    return paired_difference(both["left"], both["right"], seed=seed)


def paired_differences(left: pl.DataFrame, right: pl.DataFrame, scores: Sequence[str]) -> dict[str, Entry]:
    """`paired_on_contexts` of several columns: what `left` has more than `right`, by score in their order.

    An entry's value is the mean of left - right, in the score's unit, with its 95% bootstrap interval over contexts; its
    count, the contexts that both arms have a number for.
    """
    return {name: paired_on_contexts(left, right, name).entry() for name in scores}


def _as_column(values: pl.Series | np.ndarray | Sequence[Any]) -> pl.Series:
    column = values if isinstance(values, pl.Series) else pl.Series(values, strict=False)
    if not (column.dtype.is_numeric() or column.dtype in (pl.Boolean, pl.Null)):
        raise RayfitError(f"expected numbers, got {column.dtype}")
    numbers = column.cast(pl.Float64)
    if numbers.is_nan().any():
        raise RayfitError(
            f"text {numbers.is_nan().arg_max()}: NaN is no score; what was not measured is null (None)"
        )
    return numbers


def _resampled_means(measured: np.ndarray, seed: int, num_resamples: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    at_once = max(1, min(num_resamples, _DRAWS_AT_ONCE // len(measured)))
    means = np.empty(num_resamples)
    for start in range(0, num_resamples, at_once):
        part = means[start : start + at_once]
        drawn = generator.integers(0, len(measured), size=(len(part), len(measured)), dtype=np.int32)
        part[:] = measured[drawn].mean(axis=1)
    return means


def resampled_counts(num_texts: int, num_resamples: int) -> np.ndarray:
    """Count how often each text is drawn in each resample, float64 (num_resamples, num_texts).

    For numbers that are no mean over texts but a function of sums over them. The draws are not those of
    `bootstrap_mean`.
    """
    generator = np.random.default_rng(0)
    shares = np.full(num_texts, 1.0 / num_texts)
    return generator.multinomial(num_texts, shares, size=num_resamples).astype(np.float64)
