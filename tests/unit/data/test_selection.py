from __future__ import annotations

import random

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from rayfit.data.documents import Document
from rayfit.data.selection import draw_held_out, draw_samples
from rayfit.data.spans import cut_spans
from rayfit.errors import RayfitError
from tests.unit.data.examples import documents, numbered_documents

PLACE = ["document", "start"]


@pytest.fixture(scope="module")
def spans() -> pl.DataFrame:
    return cut_spans(numbered_documents(120, 200), span_characters=50, held_out_share=0.3)


def _count(spans: pl.DataFrame, split: str) -> int:
    return spans.filter(pl.col("split") == split).height


@given(documents(), st.integers(0, 9), st.randoms(use_true_random=False))
def test_smaller_draws_are_the_front_of_larger_ones_in_any_order_of_documents(
    texts: list[Document], seed: int, shuffler: random.Random
) -> None:
    spans = cut_spans(texts, span_characters=6, held_out_share=0.3)
    everything = _count(spans, "train")
    largest = draw_samples(spans, everything, seed)
    shuffled = list(texts)
    shuffler.shuffle(shuffled)
    again = cut_spans(shuffled, span_characters=6, held_out_share=0.3)
    for size in {0, everything // 4, everything // 2, everything}:
        drawn = draw_samples(spans, size, seed)
        assert_frame_equal(drawn, largest.head(size))
        assert_frame_equal(drawn, draw_samples(again, size, seed))


def test_the_8_are_among_the_32_and_the_32_among_the_128(spans: pl.DataFrame) -> None:
    draws = {size: set(draw_samples(spans, size, 0).select(PLACE).iter_rows()) for size in (8, 32, 128)}
    assert [len(places) for places in draws.values()] == [8, 32, 128]
    assert draws[8] < draws[32] < draws[128]


def test_samples_are_training_spans_numbered_from_zero(spans: pl.DataFrame) -> None:
    drawn = draw_samples(spans, 50, 3)
    assert drawn.columns == ["position", "document", "start", "end", "text"]
    assert drawn["position"].to_list() == list(range(50))
    training = set(spans.filter(pl.col("split") == "train").select(PLACE).iter_rows())
    assert set(drawn.select(PLACE).iter_rows()) <= training


def test_each_sample_seed_draws_other_samples(spans: pl.DataFrame) -> None:
    draws = [frozenset(draw_samples(spans, 30, seed).select(PLACE).iter_rows()) for seed in range(5)]
    assert len(set(draws)) == 5
    # 30 of about 330 at random: two draws have 2.7 in common on average
    assert all(len(one & other) < 12 for one in draws for other in draws if one != other)


def test_every_training_span_is_drawn_about_equally_often(spans: pl.DataFrame) -> None:
    size, seeds = 40, 300
    drawn = pl.concat([draw_samples(spans, size, seed).select(PLACE) for seed in range(seeds)])
    counts = drawn.group_by(PLACE).len()["len"].to_numpy()
    training = _count(spans, "train")
    share = size / training
    deviation = (seeds * share * (1 - share)) ** 0.5
    assert len(counts) == training
    assert abs(counts - seeds * share).max() < 5 * deviation


@given(documents(max_size=24), st.integers(0, 12), st.integers(0, 12), st.integers(0, 3))
def test_held_out_text_is_apart_from_training_text(
    texts: list[Document], num_contexts: int, num_validation: int, seed: int
) -> None:
    spans = cut_spans(texts, span_characters=6, held_out_share=0.5)
    held_out = _count(spans, "held_out")
    num_contexts = min(num_contexts, held_out)
    num_validation = min(num_validation, held_out - num_contexts)
    contexts, validation = draw_held_out(spans, num_contexts=num_contexts, num_validation=num_validation)
    samples = draw_samples(spans, _count(spans, "train"), seed)
    assert (contexts.height, validation.height) == (num_contexts, num_validation)
    assert set(contexts.select(PLACE).iter_rows()).isdisjoint(validation.select(PLACE).iter_rows())
    assert set(samples["document"]).isdisjoint([*contexts["document"], *validation["document"]])


def test_near_duplicates_are_never_drawn() -> None:
    texts = [
        Document(f"copy-{number}", "one two three four five six seven eight nine ten") for number in range(40)
    ]
    spans = cut_spans(texts, span_characters=48, held_out_share=0.5)
    assert _count(spans, "held_out") == 0 and _count(spans, "near_duplicate") > 5
    with pytest.raises(
        RayfitError, match=rf"give 0 spans \({_count(spans, 'near_duplicate')} more were dropped"
    ):
        draw_held_out(spans, num_contexts=1, num_validation=0)


def test_asking_for_more_of_one_leaves_the_other_as_it_was(spans: pl.DataFrame) -> None:
    contexts, validation = draw_held_out(spans, num_contexts=20, num_validation=10)
    for num_contexts, num_validation in ((20, 40), (50, 10), (50, 40)):
        other_contexts, other_validation = draw_held_out(
            spans, num_contexts=num_contexts, num_validation=num_validation
        )
        assert_frame_equal(other_contexts.head(20), contexts)
        assert_frame_equal(other_validation.head(10), validation)


def test_all_of_the_held_out_spans_can_be_asked_for_and_not_one_more(spans: pl.DataFrame) -> None:
    held_out = _count(spans, "held_out")
    contexts, validation = draw_held_out(spans, num_contexts=held_out - 5, num_validation=5)
    assert len(contexts) + len(validation) == held_out
    with pytest.raises(RayfitError) as caught:
        draw_held_out(spans, num_contexts=held_out - 5, num_validation=6)
    assert f"{held_out - 5} + 6 asked for" in str(caught.value)
    assert f"give {held_out} spans" in str(caught.value)


def test_too_many_samples_are_refused_with_the_numbers_and_what_to_do(spans: pl.DataFrame) -> None:
    training = _count(spans, "train")
    assert draw_samples(spans, training, 0).height == training
    with pytest.raises(RayfitError) as caught:
        draw_samples(spans, training + 1, 0)
    for part in (
        f"{training + 1} asked for",
        f"give {training} spans",
        "--span-characters",
        "--held-out-share",
    ):
        assert part in str(caught.value)
