"""Bootstrap means and paired differences: definition, coverage, nulls, errors."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from rayfit.errors import RayfitError
from rayfit.records.values import Entry
from rayfit.score import statistics
from rayfit.score.statistics import (
    Estimate,
    bootstrap_mean,
    paired_difference,
    paired_differences,
    paired_on_contexts,
)


def test_interval_is_the_percentiles_of_resampled_means():
    values = np.random.default_rng(1).normal(5, 2, 40)
    generator = np.random.default_rng(7)
    means = sorted(values[generator.integers(0, 40, 40, dtype=np.int32)].mean() for _ in range(500))
    estimate = bootstrap_mean(values, seed=7, num_resamples=500, level=0.9)
    assert estimate.value == pytest.approx(values.mean())
    assert (estimate.low, estimate.high) == pytest.approx(np.quantile(means, [0.05, 0.95]).tolist())


def test_same_seed_same_bits_whatever_the_memory(monkeypatch):
    values = np.random.default_rng(1).random(50)
    whole = bootstrap_mean(values, seed=3)
    assert bootstrap_mean(values.tolist(), seed=3) == whole
    assert bootstrap_mean(values, seed=4) != whole
    monkeypatch.setattr(statistics, "_DRAWS_AT_ONCE", 700)
    parts = bootstrap_mean(values, seed=3)
    assert (parts.low, parts.high) == pytest.approx((whole.low, whole.high), abs=1e-12)


def test_interval_covers_the_true_mean_about_as_often_as_it_says():
    generator = np.random.default_rng(0)
    covered = 0
    for seed in range(200):
        estimate = bootstrap_mean(generator.exponential(2.0, 60), seed=seed, num_resamples=400)
        covered += estimate.low <= 2.0 <= estimate.high
    assert 176 <= covered <= 198


def test_nulls_are_left_out_and_counted():
    estimate = bootstrap_mean([1.0, None, 3.0, None])
    assert (estimate.value, estimate.num_texts, estimate.num_missing) == (2.0, 2, 2)
    assert bootstrap_mean([True, False, None, True]).value == pytest.approx(2 / 3)
    assert bootstrap_mean([None, None]) == Estimate(None, None, None, 0, 2, "no text was measured")
    assert bootstrap_mean([]) == Estimate(None, None, None, 0, 0, "no text was measured")
    assert bootstrap_mean([4]) == Estimate(4.0, None, None, 1, 0, "one text has no interval")


def test_an_infinite_score_leaves_no_mean_and_says_so():
    infinite = float("inf")
    found = bootstrap_mean([1.0, infinite, None, 3.0])
    assert (found.value, found.low, found.high, found.num_texts, found.num_missing) == (
        None,
        None,
        None,
        3,
        1,
    )
    assert found.reason == "infinite for 1 of 3 texts"
    for left, right in (([1.0, infinite], [2.0, infinite]), ([1.0, infinite], [2.0, 0.0])):
        assert paired_difference(left, right).reason == "infinite for 1 of 2 texts"
    assert paired_difference([1.0, None], [2.0, infinite]).value == -1.0


def test_pairing_removes_what_the_contexts_share():
    generator = np.random.default_rng(2)
    context = generator.normal(0, 10, 100)
    left, right = context + 1 + generator.normal(0, 0.1, 100), context
    paired = paired_difference(left, right)
    assert paired.low < 1 < paired.high
    assert paired.high - paired.low < 0.1
    assert paired_difference(left, left) == Estimate(0.0, 0.0, 0.0, 100, 0)
    assert paired_difference([1.0, None, 2.0], [None, 1.0, 0.5]) == Estimate(
        1.5, None, None, 1, 2, "one text has no interval"
    )


def test_arms_are_paired_by_domain_and_context_in_any_order():
    left = pl.DataFrame({"domain": ["a", "a", "b"], "context_id": [1, 2, 1], "x": [1.0, 2.0, 3.0]})
    right = pl.DataFrame({"domain": ["b", "a", "a"], "context_id": [1, 3, 1], "x": [1.0, 9.0, 0.5]})
    estimate = paired_on_contexts(left, right, "x")
    assert (estimate.value, estimate.num_texts, estimate.num_missing) == (1.25, 2, 2)
    assert paired_on_contexts(left.reverse(), right, "x") == estimate
    with pytest.raises(RayfitError, match="left arm: no column y; it has domain, context_id, x"):
        paired_on_contexts(left, right, "y")
    with pytest.raises(RayfitError, match="right arm: a context stands there twice"):
        paired_on_contexts(left, pl.concat([right, right]), "x")


def test_differences_of_several_scores():
    generator = np.random.default_rng(3)
    left = pl.DataFrame(
        {"domain": ["a"] * 30, "context_id": range(30), "x": generator.random(30), "y": [True, None] * 15}
    )
    right = left.with_columns(x=pl.col("x") - 0.25, y=pl.lit(False)).sample(fraction=1, shuffle=True, seed=1)
    found = paired_differences(left, right, ["x", "y"])
    assert list(found) == ["x", "y"]
    assert (found["x"].value, found["x"].low, found["x"].high) == pytest.approx((0.25, 0.25, 0.25))
    assert found["y"] == Entry(value=1.0, low=1.0, high=1.0, count=15)
    expected = paired_on_contexts(right, left, "x")
    assert paired_differences(right, left, ["x"]) == {"x": expected.entry()}
    apart = paired_differences(left.head(10), right.filter(pl.col("context_id") >= 10), ["x"])
    assert apart["x"] == Entry(value=None, reason="no text was measured")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bootstrap_mean([1.0, float("nan")]), "text 1: NaN is no score"),
        (lambda: bootstrap_mean(["a"]), "expected numbers, got String"),
        (lambda: bootstrap_mean([1.0], level=1.0), "level: expected a share between 0 and 1"),
        (lambda: bootstrap_mean([1.0], num_resamples=0), "num_resamples: expected 1 or more"),
        (lambda: paired_difference([1.0], [1.0, 2.0]), "1 texts on one side, 2 on the other"),
    ],
)
def test_bad_calls_are_refused_in_words(call, message):
    with pytest.raises(RayfitError, match=message):
        call()
