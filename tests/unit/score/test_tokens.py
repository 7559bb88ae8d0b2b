"""The one form of texts: what is accepted, what is refused and in which words."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from rayfit.errors import RayfitError
from rayfit.score.tokens import check_vocabulary, drop_leading, token_texts


def as_lists(texts):
    given = token_texts(texts)
    return [given.tokens[a:b].tolist() for a, b in zip(given.offsets[:-1], given.offsets[1:], strict=True)]


@pytest.mark.parametrize(
    "texts",
    [
        np.array([[1, 2], [3, 4]], dtype=np.int16),
        [[1, 2], [3, 4]],
        [np.array([1, 2], dtype=np.uint32), np.array([3, 4])],
        pl.Series([[1, 2], [3, 4]], dtype=pl.List(pl.Int32)),
        pl.Series([[1, 2], [3, 4]], dtype=pl.Array(pl.UInt32, 2)),
    ],
)
def test_every_accepted_form_is_the_same_texts(texts):
    assert as_lists(texts) == [[1, 2], [3, 4]]


def test_texts_of_unequal_length_and_empty_ones():
    ragged = [[5], [], [6, 7, 8]]
    assert as_lists(ragged) == as_lists(pl.Series(ragged)) == ragged
    assert token_texts(ragged).lengths.tolist() == [1, 0, 3]
    assert as_lists(token_texts(ragged).first(2)) == [[5], [], [6, 7]]
    assert as_lists([]) == as_lists(np.zeros((0, 3), dtype=int)) == []


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([[1, 2], [3, -1]], r"text 1, position 1: token id -1 is outside"),
        ([[], [2**31]], r"text 1, position 0: token id 2147483648 is outside"),
        ([[0.5, 1.0]], r"must be integers, got float64"),
        ([1, 2, 3], r"text 0 is not a one-dimensional run.*\[text\]"),
        (np.array([1, 2, 3]), r"got 1 dimension\(s\).*\[text\]"),
        ("hello", r"got a string; encode it first"),
        (pl.Series([1, 2]), r"expected a column of integer lists, got Int64"),
        (pl.Series([[1], None]), r"text 1 is missing"),
        (pl.Series([[1], [None, 2]]), r"a token id is missing"),
    ],
)
def test_bad_texts_are_refused_in_words(texts, message):
    with pytest.raises(RayfitError, match=message):
        token_texts(texts)


def test_ids_outside_the_vocabulary_are_named():
    check_vocabulary([[0, 9]], 10)
    with pytest.raises(
        RayfitError, match=r"rows: text 1, position 2: token id 10 is not in the vocabulary of 10"
    ):
        check_vocabulary([[1], [2, 3, 10]], 10, "rows")


def test_only_a_leading_bos_is_dropped():
    assert as_lists(drop_leading([[1, 5, 1], [5, 1], [], [1]], 1)) == [[5, 1], [5, 1], [], []]
    assert as_lists(drop_leading([[1, 5]], None)) == [[1, 5]]
