from __future__ import annotations

import random

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayfit.data.documents import Document
from rayfit.data.spans import cut_spans, is_held_out, rank_key, shared_shingles, spans_fingerprint
from tests.unit.data.examples import documents, numbered_documents

TOKENS = ("a", "bb", "c", ".", ",")
shares = st.sampled_from([0.1, 0.3, 0.5, 0.9])


@given(documents(), st.integers(1, 30), shares)
def test_spans_are_consecutive_exact_pieces_of_their_documents(
    texts: list[Document], length: int, share: float
) -> None:
    spans = cut_spans(texts, span_characters=length, held_out_share=share)
    found = {name: [] for name in (document.name for document in texts)}
    for document, start, end, text in spans.select("document", "start", "end", "text").iter_rows():
        assert len(text) == length == end - start
        found[document].append((start, text))
    for document in texts:
        starts = [start for start, _ in found[document.name]]
        assert starts == [length * number for number in range(len(document.text) // length)]
        joined = "".join(text for _, text in found[document.name])
        assert document.text.startswith(joined)
        assert len(document.text) - len(joined) < length


@given(documents(), shares)
def test_a_document_is_on_one_side_whatever_else_there_is(texts: list[Document], share: float) -> None:
    spans = cut_spans(texts, span_characters=5, held_out_share=share)
    for document, split in spans.select("document", "split").iter_rows():
        alone = cut_spans([Document(document, "x" * 5)], span_characters=5, held_out_share=share)
        assert (split == "train") == (alone["split"].item() == "train")


def test_the_held_out_share_is_a_share_of_documents_and_grows_without_reshuffling() -> None:
    names = [f"name-{number}" for number in range(4000)]
    few = {name for name in names if is_held_out(name, 0.2)}
    more = {name for name in names if is_held_out(name, 0.4)}
    assert len(few) == pytest.approx(800, abs=100)  # four standard deviations of 4000 fair draws
    assert len(more) == pytest.approx(1600, abs=125)
    assert few < more


def test_rank_keys_tell_purposes_and_parts_apart() -> None:
    keys = [rank_key(*parts) for parts in (("a", 1, 23), ("a", 12, 3), ("b", 1, 23), ("a", "1", "2", "3"))]
    assert len(set(keys)) == len(keys)


def test_held_out_names_never_change() -> None:
    # sha256 of "rayfit|held-out|NAME": its first 52 bits as a share. Every trial id stands on these.
    shares_of = {"topics/assert": 0.21005, "000017": 0.72466, "fiction/000000": 0.93471}
    for name, share in shares_of.items():
        assert not is_held_out(name, share - 1e-4)
        assert is_held_out(name, share + 1e-4)


def _brute_force(text: str, training: list[str]) -> float:
    def shingles(words: list[str]) -> set[tuple[str, ...]]:
        return {tuple(words[start : start + 8]) for start in range(len(words) - 7)}

    own = shingles(text.split())
    known = set().union(*(shingles(other.split()) for other in training)) if training else set()
    return len(own & known) / len(own) if own else 0.0


word_texts = st.lists(st.sampled_from(TOKENS), max_size=40).map(" ".join)


@given(st.lists(word_texts, max_size=4), st.lists(word_texts, max_size=4))
def test_shared_shingles_equal_a_brute_force(texts: list[str], training: list[str]) -> None:
    assert shared_shingles(texts, training) == [_brute_force(text, training) for text in texts]


def test_shared_shingles_of_spliced_texts_equal_a_brute_force() -> None:
    rng = random.Random(0)
    words = [f"w{number}" for number in range(50)]
    training = [" ".join(rng.choices(words, k=300)) for _ in range(5)]
    texts = []
    for _ in range(40):
        source = rng.choice(training).split()
        start, length = rng.randrange(250), rng.randrange(40)
        texts.append(" ".join([*rng.choices(words, k=15), *source[start : start + length]]))
    shares = shared_shingles(texts, training)
    assert shares == [_brute_force(text, training) for text in texts]
    assert min(shares) == 0 and max(shares) > 0.5


def test_marks_are_tokens_of_their_own_and_white_space_is_none() -> None:
    assert shared_shingles(["a,b.c(d)e"], ["a , b .\nc ( d ) e"]) == [1.0]


def test_a_text_of_fewer_than_eight_words_shares_nothing() -> None:
    assert shared_shingles(["a b c d e f g"], ["a b c d e f g"]) == [0.0]


def _two_names(share: float) -> tuple[str, str]:
    """A name on the training side and one that is held out."""
    names = [f"n{number}" for number in range(100)]
    return next(n for n in names if not is_held_out(n, share)), next(
        n for n in names if is_held_out(n, share)
    )


@pytest.mark.parametrize(("copied", "split"), [(11, "held_out"), (12, "near_duplicate")])
def test_more_than_half_of_the_shingles_makes_a_near_duplicate(copied: int, split: str) -> None:
    training_name, held_out_name = _two_names(0.5)
    training = [f"{letter}1" for letter in "abcdefghijklmnop"]
    # 16 words have 9 shingles, and `copied` words of the training text at the front repeat copied - 7 of them:
    # 4 of 9 are less than half and 5 of 9 are more.
    other = [*training[:copied], *(f"{letter}2" for letter in "qrstuvwxyz"[: 16 - copied])]
    texts = [Document(training_name, " ".join(training)), Document(held_out_name, " ".join(other))]
    spans = cut_spans(texts, span_characters=len(texts[1].text), held_out_share=0.5)
    assert spans.filter(pl.col("document") == held_out_name)["split"].to_list() == [split]
    assert spans.filter(pl.col("document") == training_name)["split"].to_list() == ["train"]


def test_exactly_half_of_the_shingles_is_kept() -> None:
    training_name, held_out_name = _two_names(0.5)
    training = " ".join(f"{letter}1" for letter in "abcdefghijklm")  # 13 words
    other = " ".join(
        [*training.split(), *(f"{letter}2" for letter in "nopqrs")]
    )  # 19 words: 6 of 12 shingles
    assert shared_shingles([other], [training]) == [0.5]
    texts = [Document(training_name, training), Document(held_out_name, other)]
    spans = cut_spans(texts, span_characters=len(other), held_out_share=0.5)
    assert spans["split"].to_list() == ["held_out"]


def test_the_rest_of_a_training_document_counts_as_training_text() -> None:
    training_name, held_out_name = _two_names(0.5)
    copied = numbered_documents(1, 90)[0].text
    texts = [Document(training_name, "-" * 100 + " " + copied), Document(held_out_name, copied + " " * 10)]
    spans = cut_spans(texts, span_characters=100, held_out_share=0.5)
    assert spans.filter(pl.col("document") == held_out_name)["split"].to_list() == ["near_duplicate"]


def test_no_documents_give_an_empty_frame_with_its_columns() -> None:
    spans = cut_spans([], span_characters=10, held_out_share=0.2)
    assert spans.columns == ["document", "start", "end", "text", "split"]
    assert spans.height == 0


def test_a_document_can_be_held_out_by_another_one_s_name() -> None:
    names = [f"name-{number}" for number in range(200)]
    follow = [Document(f"other-{name}", "x" * 5, held_out_by=name) for name in names]
    spans = cut_spans(follow, span_characters=5, held_out_share=0.4)
    sides = {document: split != "train" for document, split in spans.select("document", "split").iter_rows()}
    assert sides == {f"other-{name}": is_held_out(name, 0.4) for name in names}
    assert set(sides.values()) == {True, False}


def test_a_held_out_span_that_stands_in_other_training_text_is_dropped() -> None:
    texts = numbered_documents(40)
    spans = cut_spans(texts, span_characters=100, held_out_share=0.5)
    held_out = spans.filter(pl.col("split") == "held_out")
    copied = f"before {held_out['text'][0]} after"
    again = cut_spans(texts, span_characters=100, held_out_share=0.5, other_training_texts=[copied])
    changed = again.filter(again["split"] != spans["split"])
    assert changed["document"].to_list() == [held_out["document"][0]]
    assert changed["split"].to_list() == ["near_duplicate"]


def test_the_fingerprint_is_of_places_sides_and_texts() -> None:
    texts = numbered_documents(20)
    spans = cut_spans(texts, span_characters=50, held_out_share=0.5)
    others = [
        spans.with_columns(pl.when(pl.col("start") == 0).then(pl.lit("x")).otherwise("text").alias("text")),
        spans.with_columns(split=pl.lit("train")),
        spans.with_columns(start=pl.col("start") + 1),
        spans.reverse(),
    ]
    found = {spans_fingerprint(frame) for frame in (spans, *others)}
    assert len(found) == 5
    assert spans_fingerprint(cut_spans(texts, span_characters=50, held_out_share=0.5)) in found
