"""Scores of an arm by name, several domains pooled, and the original beside a trial's rows."""

from __future__ import annotations

from collections import Counter

import numpy as np
import polars as pl
import pytest

from rayfit.errors import RayfitError
from rayfit.records.values import Entry
from rayfit.score.arm import arm_scores, original_scores, pool_scores
from rayfit.score.bleu import dataset_bleu
from rayfit.score.series import text_series
from rayfit.score.statistics import bootstrap_mean
from rayfit.score.text import AGGREGATES, index_rows, score_texts
from rayfit.scores import SCORES
from tests.unit.score import oracles

GENERATOR = np.random.default_rng(5)
ROWS = GENERATOR.integers(0, 12, (8, 110))


def domain(name, num_texts, **more):
    texts = GENERATOR.integers(0, 12, (num_texts, 120))
    texts[0, 5:45] = ROWS[0, :40]
    columns = {"context_id": range(num_texts), "domain": [name] * num_texts, "token_ids": texts.tolist()}
    return pl.DataFrame({**columns, **more})


def test_an_arm_s_scores_are_its_aggregates():
    scored = score_texts(domain("news", 7), ROWS)
    found = arm_scores(scored)
    assert list(found) == [each.name for each in AGGREGATES]
    expected = bootstrap_mean(scored["rep_2"])
    assert found["rep_2"] == Entry(value=expected.value, low=expected.low, high=expected.high, count=7)
    assert found["self_bleu_max"].reason == "a maximum has no interval"


def test_blocker_shares_are_of_each_text_s_own_steps():
    frame = pl.DataFrame(
        {
            "context_id": [1, 2, 3],
            "domain": ["a"] * 3,
            "token_ids": [[1, 2, 3, 4], [5, 6], []],
            "steps_banned": [2, 1, 0],
            "steps_changed": [1, 0, 0],
        }
    )
    found = arm_scores(score_texts(frame, ROWS))
    assert (found["blocker_banned_share"].value, found["blocker_changed_share"].value) == (0.5, 0.125)
    assert found["blocker_banned_share"].count == 2
    nothing = pl.lit(None, dtype=pl.Int32)
    without = frame.with_columns(steps_banned=nothing, steps_changed=nothing)
    assert not [name for name in arm_scores(score_texts(without, ROWS)) if "blocker" in name]


@pytest.mark.parametrize("sizes", [(6,), (6, 3), (5, 1, 4)])
def test_pooled_domains_have_the_scores_of_one_frame_with_all_texts(sizes):
    parts = [
        domain(name, size, steps_banned=[size] * size, steps_changed=[1] * size)
        for name, size in zip(("fiction", "news", "wiki"), sizes, strict=False)
    ]
    rows = index_rows(ROWS)
    pooled = pool_scores([score_texts(part, rows) for part in parts])
    assert pooled == arm_scores(score_texts(pl.concat(parts), rows))
    assert pooled["blocker_banned_share"].count == sum(sizes)
    assert set(pooled) <= set(SCORES)


def test_pooling_needs_one_arm_s_texts_each_once():
    scored = score_texts(domain("news", 3), ROWS)
    with pytest.raises(RayfitError, match="no scored texts to pool"):
        pool_scores([])
    with pytest.raises(RayfitError, match="not every domain has the columns rep_2"):
        pool_scores([scored, score_texts(domain("wiki", 2), ROWS).drop("rep_2")])
    with pytest.raises(RayfitError, match="a context stands there twice"):
        pool_scores([scored, scored])


def test_the_original_is_compared_with_the_rows_of_a_trial():
    original = domain("news", 5)
    texts = original["token_ids"].to_list()
    longest = [oracles.longest_overlap(text, ROWS.tolist()) for text in texts]
    found, series = original_scores(original, index_rows(ROWS))
    assert found["original_longest_overlap_mean"].value == pytest.approx(np.mean(longest))
    assert found["original_longest_overlap_share_above_5"].value == np.mean([n > 5 for n in longest])
    assert found["original_dataset_bleu_mean"].value == pytest.approx(dataset_bleu(texts, ROWS).values.mean())
    assert set(found) <= set(SCORES)
    counted = Counter(longest)
    histogram = series["original_longest_overlap_histogram"]
    assert list(histogram.items()) == [(str(length), counted[length]) for length in sorted(counted)]
    assert series == {
        "original_longest_overlap_histogram": text_series(score_texts(original, ROWS))[
            "longest_overlap_histogram"
        ]
    }


def test_whether_a_run_was_exceeded_is_told_of_every_text():
    rows = [list(range(50))]
    texts = [list(range(3, 8)), list(range(3, 9)), [60], []]
    frame = pl.DataFrame(
        {"context_id": range(4), "domain": ["a"] * 4, "token_ids": texts},
        schema_overrides={"token_ids": pl.List(pl.Int64)},
    )
    scored = score_texts(frame, rows)
    assert scored["exceeded_run"].to_list() == [False, True, False, None]
    assert scored.schema["exceeded_run"] == pl.Boolean
    share = arm_scores(scored)["longest_overlap_share_above_5"]
    assert (share.value, share.count) == (pytest.approx(1 / 3), 3)
    assert score_texts(frame)["exceeded_run"].to_list() == [None] * 4
