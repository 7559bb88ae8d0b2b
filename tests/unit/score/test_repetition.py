"""TTR, repeated n-grams and loops against their definitions."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from hypothesis import given

from rayfit.errors import RayfitError
from rayfit.score import bleu, overlap, repetition
from rayfit.score.repetition import loop_period, repeated_ngrams, ttr, ttr_by_position
from tests.unit.score import oracles


@pytest.mark.parametrize("module", [repetition, bleu, overlap])
def test_examples_in_docstrings(module):
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


@oracles.examples
@given(oracles.texts(0, 15))
def test_ttr_is_distinct_over_all(texts):
    for which, cut in (("first", lambda t: t[:6]), ("last", lambda t: t[-6:])):
        expected = [len(set(cut(t))) / len(cut(t)) if t else None for t in texts]
        measured = ttr(texts, 6, which)
        assert measured.values.to_list() == pytest.approx(expected, abs=1e-15)
        assert measured.notes.is_not_null().to_list() == [len(t) < 6 for t in texts]


@oracles.examples
@given(oracles.texts(0, 15))
def test_ttr_by_position_is_the_mean_of_sliding_windows(texts):
    expected = []
    for end in range(4, max(map(len, texts)) + 1):
        shares = [len(set(t[end - 4 : end])) / 4 for t in texts if len(t) >= end]
        expected.append((end, sum(shares) / len(shares), len(shares)))
    curve = ttr_by_position(texts, 4)
    assert curve["position"].to_list() == [e[0] for e in expected]
    assert curve["ttr"].to_list() == pytest.approx([e[1] for e in expected], abs=1e-12)
    assert curve["num_texts"].to_list() == [e[2] for e in expected]


def test_ttr_by_position_ends_at_the_ttr_of_the_last_window():
    texts = np.random.default_rng(0).integers(0, 90, (20, 224))
    curve = ttr_by_position(texts)
    assert curve["position"].to_list() == list(range(96, 225))
    assert curve["ttr"][0] == pytest.approx(ttr(texts, which="first").values.mean(), abs=1e-12)
    assert curve["ttr"][-1] == pytest.approx(ttr(texts).values.mean(), abs=1e-12)


@oracles.examples
@given(oracles.texts(0, 15))
def test_repeated_ngrams_are_one_minus_distinct_over_all(texts):
    for n in (1, 2, 3, 4):
        grams = [oracles.grams(t, n) for t in texts]
        expected = [1 - len(set(g)) / len(g) if g else None for g in grams]
        measured = repeated_ngrams(texts, n)
        assert measured.values.to_list() == pytest.approx(expected, abs=1e-15)
        assert measured.notes.is_not_null().to_list() == [not g for g in grams]


@oracles.examples
@given(oracles.texts(0, 40, ids=2))
def test_loop_period_on_random_texts(texts):
    measured = loop_period(texts)
    assert measured.values.to_list() == [oracles.loop_period(t) for t in texts]
    assert measured.notes.is_not_null().to_list() == [len(t) < 12 for t in texts]


@pytest.mark.parametrize("period", [1, 2, 3, 4, 5, 8, 20])
def test_loop_period_of_texts_that_loop(period):
    needed = max(3 * period, 12)
    loop = list(range(100, 100 + period)) * 20
    texts = [loop[-needed:], [1, 2, *loop[-needed:]], [*loop[-needed + 1 :], 1], [1, *loop[-needed + 1 :]]]
    assert loop_period(texts).values.to_list() == [period, period, None, None]
    assert loop_period(texts).values.to_list() == [oracles.loop_period(t) for t in texts]


def test_a_loop_inside_a_loop_counts_with_its_own_period():
    assert loop_period([([1, 2, 3] + [9] * 12) * 3]).values.to_list() == [1]


def test_short_texts_say_so():
    assert ttr([[4]], 96).notes.to_list() == ["1 tokens, fewer than the window of 96"]
    assert ttr([[]], 96).values.to_list() == [None]
    assert repeated_ngrams([[4]], 2).notes.to_list() == ["1 tokens, at least 2 needed"]
    assert loop_period([[4]]).notes.to_list() == ["1 tokens, at least 12 needed to tell a loop"]


def test_unknown_options_are_refused():
    with pytest.raises(RayfitError, match="did you mean 'last'"):
        ttr([[1]], which="lest")
    with pytest.raises(RayfitError, match="window: expected 1 or more"):
        ttr_by_position([[1]], 0)
    with pytest.raises(RayfitError, match="order: expected 1 or more"):
        repeated_ngrams([[1]], 0)
