"""All scores of one arm at once: the columns, the aggregates, the registry, and compiling without a cache."""

from __future__ import annotations

import numba
import numpy as np
import polars as pl
import pytest

from rayfit.columns import POOLED
from rayfit.errors import RayfitError
from rayfit.score.bleu import dataset_bleu, self_bleu
from rayfit.score.compiled import compiled
from rayfit.score.overlap import OverlapIndex
from rayfit.score.repetition import loop_period, repeated_ngrams, ttr
from rayfit.score.statistics import bootstrap_mean
from rayfit.score.text import AGGREGATES, aggregate_scores, index_rows, score_texts
from rayfit.scores import SCORES, score

GENERATOR = np.random.default_rng(11)
ROWS = GENERATOR.integers(2, 50, (30, 120))
TEXTS = GENERATOR.integers(2, 50, (12, 130))
TEXTS[1, 50:] = np.tile(TEXTS[1, 50:60], 8)
TEXTS[2, :100] = ROWS[4, 5:105]
DOMAINS = ["fiction", "news", "wiki"] * 4


def frame(texts=TEXTS, domains=None):
    texts = [list(map(int, text)) for text in texts]
    domains = domains or DOMAINS[: len(texts)]
    columns = {"context_id": [f"c{i}" for i in range(len(texts))], "domain": domains, "token_ids": texts}
    return pl.DataFrame(columns, schema_overrides={"token_ids": pl.List(pl.Int64)})


def test_columns_are_the_scores_in_the_order_of_the_frame():
    scored = score_texts(frame(), ROWS, vocabulary_size=50)
    expected = {
        "ttr_first_96": ttr(TEXTS, 96, "first").values,
        "ttr_last_96": ttr(TEXTS, 96, "last").values,
        **{f"rep_{n}": repeated_ngrams(TEXTS, n).values for n in (2, 3, 4)},
        "loop_period": loop_period(TEXTS).values,
        "self_bleu": self_bleu(TEXTS).values,
        "self_bleu_in_domain": self_bleu(TEXTS, groups=pl.Series(DOMAINS)).values,
        "dataset_bleu": dataset_bleu(TEXTS, ROWS).values,
        "longest_overlap": OverlapIndex(ROWS).longest_overlaps(TEXTS).values,
    }
    for name, values in expected.items():
        assert scored[name].to_list() == values.to_list(), name
    assert scored["ends_in_loop"].to_list() == [i == 1 for i in range(12)]
    assert scored["loop_period"][1] == 10
    assert (scored["dataset_bleu"][2], scored["longest_overlap"][2]) == (1.0, 100)
    assert scored["score_notes"].null_count() == 12
    assert scored.select("context_id", "domain", "token_ids").equals(frame())


def test_rows_can_be_indexed_once_and_lose_their_bos():
    with_bos = np.concatenate([np.ones((30, 1), dtype=int), ROWS], axis=1)
    assert score_texts(frame(), index_rows(with_bos, bos_id=1)).equals(score_texts(frame(), ROWS))


def test_short_texts_are_null_with_reasons():
    scored = score_texts(frame([[], [5], [5, 6, 7], TEXTS[0]]), ROWS)
    nulls = {name: scored[name].is_null().to_list() for name in SCORES if name in scored.columns}
    assert nulls["ttr_first_96"] == nulls["longest_overlap"] == [True, False, False, False]
    assert nulls["rep_2"] == [True, True, False, False]
    assert nulls["rep_4"] == nulls["dataset_bleu"] == nulls["ends_in_loop"] == [True, True, True, False]
    assert nulls["self_bleu"] == [True, True, True, False]
    assert nulls["self_bleu_in_domain"] == [True, True, True, True]
    assert "self_bleu: 1 tokens, at least 4 needed; " in scored["score_notes"][1]
    assert "longest_overlap: 0 tokens, nothing was generated" in scored["score_notes"][0]


def test_without_rows_and_with_rows_too_short_for_a_window():
    scored = score_texts(frame())
    assert scored["dataset_bleu"].null_count() == scored["longest_overlap"].null_count() == 12
    assert scored.schema["longest_overlap"] == pl.Int64
    assert "dataset_bleu: no training rows to compare with" in scored["score_notes"][0]
    short = score_texts(frame(), [row[:50] for row in ROWS])
    assert short["dataset_bleu"].null_count() == 12
    assert short["longest_overlap"].null_count() == 0
    assert short["score_notes"][0] == "dataset_bleu: no training row has the 96 tokens of a window"


def test_aggregates_per_domain_and_pooled():
    scored = score_texts(frame(), ROWS)
    table = aggregate_scores(scored)
    assert table.height == 4 * len(AGGREGATES)
    assert table["domain"].unique(maintain_order=True).to_list() == ["fiction", "news", "wiki", POOLED]
    lines = {(line["domain"], line["score"]): line for line in table.iter_rows(named=True)}

    news = scored.filter(pl.col("domain") == "news")
    mean = bootstrap_mean(news["ttr_last_96"])
    line = lines["news", "ttr_last_96"]
    assert (line["value"], line["low"], line["high"], line["num_texts"]) == (
        mean.value,
        mean.low,
        mean.high,
        4,
    )
    assert lines["news", "loop_share"]["value"] == 0.25
    assert lines["news", "loop_period_mean"]["value"] == 10.0
    assert lines["wiki", "loop_period_mean"]["value"] is None
    assert lines["news", "self_bleu_max"]["value"] == news["self_bleu_in_domain"].max()
    assert lines[POOLED, "self_bleu_mean"]["value"] == pytest.approx(scored["self_bleu"].mean())
    assert lines["wiki", "dataset_bleu_max"]["value"] == 1.0
    assert lines["wiki", "dataset_bleu_max"]["reason"] == "a maximum has no interval"
    assert lines["wiki", "longest_overlap_max"]["value"] == 100.0
    assert lines["wiki", "longest_overlap_share_above_10"]["value"] == 0.25
    assert lines["wiki", "longest_overlap_share_above_10"]["low"] == 0.0


def test_what_was_not_measured_stays_null_in_the_aggregates():
    table = aggregate_scores(score_texts(frame([[], [5]])))
    pooled = table.filter(pl.col("domain") == POOLED)
    bleu = pooled.row(by_predicate=pl.col("score") == "self_bleu_mean", named=True)
    assert (bleu["value"], bleu["num_texts"], bleu["num_missing"]) == (None, 0, 2)
    assert bleu["reason"] == "no text was measured"
    assert pooled["value"].drop_nulls().to_list() == [1.0, 1.0]
    assert score_texts(frame([])).height == 0
    assert aggregate_scores(score_texts(frame([])))["value"].null_count() == len(AGGREGATES)


@pytest.mark.parametrize(
    ("generations", "message"),
    [
        (frame().drop("domain"), "no column domain; needed are context_id, domain, token_ids"),
        (pl.concat([frame(), frame()]), "context 'c0' of domain 'fiction' stands there twice"),
        (frame(TEXTS[:2], ["a", None]), "a context_id or a domain is missing"),
        (frame(TEXTS[:2], ["a", "pooled"]), "a domain may not be called 'pooled'"),
        (frame([[1, 50]]), "token_ids: text 0, position 1: token id 50 is not in the vocabulary of 50"),
        (frame([[1, -1]]), "token_ids: text 0, position 1: token id -1 is outside"),
    ],
)
def test_bad_frames_are_refused_in_words(generations, message):
    with pytest.raises(RayfitError, match=message):
        score_texts(generations, vocabulary_size=50)


def test_aggregating_an_unscored_frame_is_refused():
    with pytest.raises(RayfitError, match="no column ttr_first_96"):
        aggregate_scores(frame())


def test_every_column_and_every_aggregate_is_registered():
    new = [
        name for name in score_texts(frame(), ROWS).columns if name not in (*frame().columns, "score_notes")
    ]
    assert {*new, *(each.name for each in AGGREGATES)} <= set(SCORES)
    assert all(entry.unit and entry.source and entry.reading for entry in SCORES.values())
    assert score("self_bleu").direction == "lower"
    with pytest.raises(RayfitError, match="did you mean 'self_bleu'"):
        score("selfbleu")


def test_compiling_works_where_nothing_can_be_cached(monkeypatch):
    real = numba.njit

    def njit(*, cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return real(**options)

    monkeypatch.setattr(numba, "njit", njit)
    assert compiled(lambda x: x + 1)(2) == 3
