"""Curves and histograms of an arm's texts against plain Python."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import polars as pl
import pytest

from rayfit.errors import RayfitError
from rayfit.score.series import text_series
from rayfit.score.text import score_texts
from tests.unit.score import oracles

GENERATOR = np.random.default_rng(3)
ROWS = GENERATOR.integers(0, 9, (5, 40)).tolist()


def scored(texts, rows=ROWS):
    frame = pl.DataFrame(
        {"context_id": range(len(texts)), "domain": ["a"] * len(texts), "token_ids": texts},
        schema_overrides={"token_ids": pl.List(pl.Int32)},
    )
    return score_texts(frame, rows)


def test_series_are_the_brute_force_s_and_survive_json():
    lengths = [224, 224, 130, 96, 95, 12, 1]
    texts = [GENERATOR.integers(0, 9, n).tolist() for n in lengths]
    series = text_series(scored(texts))
    curve = []
    for end in range(96, 225):
        shares = [len(set(text[end - 96 : end])) / 96 for text in texts if len(text) >= end]
        curve.append(sum(shares) / len(shares))
    overlaps = Counter(oracles.longest_overlap(text, ROWS) for text in texts)
    assert list(series) == ["ttr_by_position", "longest_overlap_histogram"]
    assert series["ttr_by_position"]["first_position"] == 96
    assert series["ttr_by_position"]["values"] == pytest.approx(curve, abs=1e-12)
    assert list(series["longest_overlap_histogram"].items()) == [
        (str(n), overlaps[n]) for n in sorted(overlaps)
    ]
    assert json.loads(json.dumps(series, allow_nan=False)) == series


def test_lengths_are_in_the_order_of_numbers():
    texts = [list(range(100, 100 + n)) for n in (2, 10, 9)]
    series = text_series(scored(texts, [list(range(100, 200))]))
    assert list(series["longest_overlap_histogram"].items()) == [("2", 1), ("9", 1), ("10", 1)]


def test_what_was_not_measured_is_absent():
    series = text_series(scored([[1, 2], []], rows=None))
    assert series == {
        "ttr_by_position": {"first_position": 96, "values": []},
        "longest_overlap_histogram": None,
    }


def test_an_unscored_frame_is_refused():
    with pytest.raises(
        RayfitError, match="no column longest_overlap; give the frame that score_texts returns"
    ):
        text_series(scored([[1]]).drop("longest_overlap"))
