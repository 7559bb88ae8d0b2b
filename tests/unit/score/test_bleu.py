"""Self-BLEU and Dataset BLEU against nltk and sacrebleu over all pairs and all windows."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from sacrebleu.metrics.bleu import BLEU

from rayfit.errors import RayfitError
from rayfit.score.bleu import dataset_bleu, self_bleu, window_index
from tests.unit.score import oracles

SACREBLEU = BLEU(tokenize="none", smooth_method="floor", smooth_value=0.1, effective_order=False, force=True)


def line(tokens):
    return " ".join(map(str, tokens))


def close(expected):
    return pytest.approx(expected, abs=1e-9)


@oracles.examples
@given(oracles.texts(4, 14).filter(lambda texts: len(texts) > 1))
def test_self_bleu_is_the_highest_pairwise_bleu_of_nltk(texts):
    expected = [
        max(oracles.nltk_bleu(text[:9], [other[:9]]) for j, other in enumerate(texts) if j != i)
        for i, text in enumerate(texts)
    ]
    assert self_bleu(texts, window=9).values.to_list() == close(expected)


@oracles.examples
@given(oracles.texts(4, 14), oracles.texts(0, 14, most=4))
def test_dataset_bleu_is_the_best_window_of_nltk(texts, rows):
    windows = oracles.windows(rows, 6)
    measured = dataset_bleu(texts, window_index(rows, 6))
    if windows:
        expected = [max(oracles.nltk_bleu(text[:6], [w]) for w in windows) for text in texts]
        assert measured.values.to_list() == close(expected)
        assert measured.notes.null_count() == len(texts)
    else:
        assert measured.values.null_count() == len(texts)
        assert set(measured.notes) == {"no training row has the 6 tokens of a window"}


@pytest.mark.parametrize("ids", [4, 40, 400])
def test_all_windows_at_full_length_agree_with_sacrebleu(ids):
    generator = np.random.default_rng(ids)
    rows, texts = generator.integers(0, ids, (2, 100)), generator.integers(0, ids, (3, 96))
    texts[2, 20:60] = rows[1, 30:70]
    expected = [
        max(SACREBLEU.sentence_score(line(t), [line(w)]).score for w in oracles.windows(rows.tolist(), 96))
        / 100
        for t in texts
    ]
    assert dataset_bleu(texts, rows).values.to_list() == close(expected)


@pytest.mark.parametrize("ids", [4, 40])
def test_all_pairs_at_full_length_agree_with_sacrebleu(ids):
    texts = np.random.default_rng(ids).integers(0, ids, (5, 96))
    texts[2, 20:60] = texts[1, 30:70]
    expected = [
        max(SACREBLEU.sentence_score(line(t), [line(u)]).score for j, u in enumerate(texts) if j != i) / 100
        for i, t in enumerate(texts)
    ]
    assert self_bleu(texts).values.to_list() == close(expected)


def test_identical_texts_give_exactly_one():
    assert self_bleu(np.tile(np.arange(96), (5, 1))).values.to_list() == [1.0] * 5


def test_a_text_copied_from_a_row_gives_exactly_one():
    rows = np.random.default_rng(0).integers(0, 500, (20, 255))
    copied = [rows[3, 100:196], rows[0, :96], rows[19, 159:], rows[7, 10:234]]
    assert dataset_bleu(copied, rows).values.to_list() == [1.0] * 4


def test_windows_do_not_cross_rows():
    row = np.arange(192)
    across = dataset_bleu([row[48:144]], [row[:96], row[96:]]).values[0]
    assert across < 0.6
    assert dataset_bleu([row[48:144]], [row]).values[0] == 1.0


def test_order_of_texts_and_rows_and_number_of_threads_do_not_matter():
    generator = np.random.default_rng(5)
    texts, rows = generator.integers(0, 30, (40, 96)), generator.integers(0, 30, (25, 120))
    shuffled = generator.permutation(40)
    for score in (self_bleu, lambda t, **more: dataset_bleu(t, rows, **more)):
        values = score(texts).values.to_numpy()
        assert np.array_equal(score(texts[shuffled]).values.to_numpy(), values[shuffled])
        assert np.array_equal(score(texts, num_threads=3).values.to_numpy(), values)
    assert np.array_equal(dataset_bleu(texts, rows[::-1].copy()).values, dataset_bleu(texts, rows).values)


def test_groups_keep_texts_apart():
    texts = np.random.default_rng(1).integers(0, 9, (9, 20))
    groups = pl.Series(["a", "b", "c"] * 3)
    together = self_bleu(texts, groups=groups).values.to_numpy()
    for group in range(3):
        assert np.array_equal(self_bleu(texts[group::3]).values.to_numpy(), together[group::3])
    with pytest.raises(RayfitError, match="groups: expected one for each of 9 texts, got 2"):
        self_bleu(texts, groups=groups[:2])


def test_short_and_lonely_texts_are_null_and_say_why():
    measured = self_bleu([[1, 2, 3], [], [1, 2, 3, 4], [1, 2, 3, 9]], groups=np.array([0, 0, 0, 1]))
    assert measured.values.is_null().to_list() == [True, True, False, True]
    assert measured.notes.to_list() == [
        "3 tokens, at least 4 needed",
        "0 tokens, at least 4 needed",
        None,
        "4 tokens, but no other text to compare with",
    ]
    assert self_bleu([[1, 2, 3, 4], []]).values.to_list() == [None, None]
    against_rows = dataset_bleu([[1], [1, 2, 3, 4]], [list(range(100))])
    assert against_rows.values.is_null().to_list() == [True, False]
    assert against_rows.notes.to_list() == ["1 tokens, at least 4 needed", None]


def test_rows_without_a_window_are_counted():
    index = window_index([[1] * 95, [1] * 96, [1] * 100], 96)
    assert (index.num_windows, index.num_rows_without_window) == (6, 1)


def test_no_texts_give_no_scores():
    assert self_bleu([]).values.to_list() == dataset_bleu([], [[1] * 96]).values.to_list() == []


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: self_bleu([[1]], window=3), "window: expected 4 to 8000 tokens, got 3"),
        (lambda: self_bleu([[1] * 4] * 2, num_threads=0), "num_threads: expected 1 or more, got 0"),
        (lambda: window_index([]), "training rows: there are none"),
        (lambda: dataset_bleu([[1]], [[-1]]), "training rows: text 0, position 0: token id -1"),
    ],
)
def test_bad_calls_are_refused_in_words(call, message):
    with pytest.raises(RayfitError, match=message):
        call()
