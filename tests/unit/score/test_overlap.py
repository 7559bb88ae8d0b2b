"""Overlap with the rows and within a text against brute force over all runs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from rayfit.errors import RayfitError
from rayfit.score.overlap import OverlapIndex, overlap_histogram, repeated_runs
from tests.unit.score import oracles


@oracles.examples
@given(oracles.texts(0, 12, ids=3), oracles.texts(0, 14, ids=3))
def test_longest_overlap_against_all_runs(texts, rows):
    measured = OverlapIndex(rows).longest_overlaps(texts)
    assert measured.values.to_list() == [oracles.longest_overlap(t, rows) if t else None for t in texts]


@oracles.examples
@given(oracles.texts(1, 10, most=1, ids=3), oracles.texts(0, 14, ids=3))
def test_match_lengths_against_all_runs(texts, rows):
    text = texts[0]
    ends = [
        [n for n in range(1, i + 2) if oracles.longest_overlap(text[i + 1 - n : i + 1], rows) == n]
        for i in range(len(text))
    ]
    assert OverlapIndex(rows).match_lengths(texts).tolist() == [max(e, default=0) for e in ends]


def test_a_larger_index_against_sets_of_runs():
    generator = np.random.default_rng(3)
    rows, texts = generator.integers(0, 60, (200, 64)), generator.integers(0, 60, (50, 96))
    for i in range(40):
        texts[i, 30 : 31 + i] = rows[i, 10 : 11 + i]
    longest = OverlapIndex(rows).longest_overlaps(texts).values.to_list()
    for n in (2, 3, 5, 10, 20, 35):
        runs = {tuple(row[j : j + n]) for row in rows.tolist() for j in range(64 - n + 1)}
        for text, found in zip(texts.tolist(), longest, strict=True):
            assert (found >= n) == any(gram in runs for gram in oracles.grams(text, n))


def test_copied_texts_overlap_in_full_and_never_across_rows():
    rows = np.random.default_rng(0).integers(0, 500, (20, 255))
    index = OverlapIndex(rows)
    assert index.longest_overlaps([rows[3, 10:234], rows[19]]).values.to_list() == [224, 255]
    across = np.concatenate([rows[4, -50:], rows[5, :46]])
    assert index.longest_overlaps([across]).values.to_list() == [50]


@oracles.examples
@given(oracles.texts(0, 14, ids=3))
def test_repeated_runs_against_all_earlier_runs(texts):
    assert [runs.tolist() for runs in repeated_runs(texts)] == [oracles.repeated_runs(t) for t in texts]


def test_a_loop_counts_up():
    assert repeated_runs([[7] * 5])[0].tolist() == [0, 1, 2, 3, 4]
    assert repeated_runs([]) == []


def test_the_histogram_counts_the_lengths_that_occur():
    longest = OverlapIndex([list(range(50))]).longest_overlaps([range(3), range(8), range(20), range(20), []])
    counted = overlap_histogram(longest.values)
    assert counted.rows() == [(3, 1), (8, 1), (20, 2)]
    assert overlap_histogram(longest.values[4:]).schema == counted.schema
    assert overlap_histogram(longest.values[4:]).is_empty()


def test_empty_texts_and_missing_rows():
    assert OverlapIndex([[], [1]]).longest_overlaps([[], [2]]).values.to_list() == [None, 0]
    assert OverlapIndex([[1]]).longest_overlaps([[]]).notes.to_list() == ["0 tokens, nothing was generated"]
    with pytest.raises(RayfitError, match="training rows: there are none"):
        OverlapIndex([])
    with pytest.raises(RayfitError, match="text 0, position 1: token id -5"):
        OverlapIndex([[1, 2]]).longest_overlaps([[1, -5]])
