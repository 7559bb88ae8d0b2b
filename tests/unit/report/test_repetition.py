from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from rayfit.report.repetition import Tokens, spans_of_tokens, spans_of_words
from rayfit.report.shading import SHADES, shade_of, token_pieces


@pytest.fixture(scope="module")
def tokens(tokenizer_file: Path) -> Tokens:
    return Tokens(str(tokenizer_file))


def _run(ids: list[int], end: int) -> int:
    """By hand: the longest run ending at `end` that also ends at some earlier place."""
    longest = 0
    for earlier in range(end):
        length = 0
        while length <= earlier and ids[earlier - length] == ids[end - length]:
            length += 1
        longest = max(longest, length)
    return longest


@pytest.mark.parametrize("text", ["the fox and the owl", "naïve 🦊🦊 fox", "<b>&amp;</b>\n\n  x", " leading"])
def test_pieces_joined_are_the_text(tokens: Tokens, text: str) -> None:
    ids = tokens.ids(text)
    pieces = tokens.pieces(ids)
    assert "".join(pieces) == text and len(pieces) == len(ids)


def test_a_character_of_several_tokens_belongs_to_the_last(tokens: Tokens) -> None:
    pieces = tokens.pieces(tokens.ids("a🦊"))
    assert pieces == ["a", "", "", "", "🦊"]


def test_levels_are_of_the_runs_that_end_at_each_token(tokens: Tokens) -> None:
    generator = random.Random(0)
    for _ in range(20):
        text = " ".join(generator.choice(["the", "fox", "and", "owl", "zebra"]) for _ in range(30))
        ids = tokens.ids(text)
        spans = spans_of_tokens(tokens, ids, text)
        assert spans is not None and "".join(span.text for span in spans) == text
        by_character = [span.level for span in spans for _ in span.text]
        expected = [
            shade_of(_run(ids, place)) for place, piece in enumerate(tokens.pieces(ids)) for _ in piece
        ]
        assert by_character == expected


def test_neighbours_of_one_level_are_one_span(tokens: Tokens) -> None:
    spans = spans_of_tokens(tokens, tokens.ids("the fox and"), "the fox and")
    assert spans is not None and len(spans) == 1 and spans[0].level == 0


def test_another_tokenizers_text_is_refused(tokens: Tokens) -> None:
    assert spans_of_tokens(tokens, tokens.ids("the fox"), "the owl") is None
    assert spans_of_tokens(tokens, [], "") is None


def test_without_tokens_words_are_coloured() -> None:
    spans = spans_of_words("round and round and round and go")
    assert [(span.text, span.level) for span in spans] == [
        ("round and round", 0),
        (" and round", 1),
        (" and", 2),
        (" go", 0),
    ]
    assert [span.text for span in spans_of_words("  \n")] == ["  \n"]
    assert spans_of_words("") == []


def test_level_bounds() -> None:
    assert [shade_of(run) for run in (0, 1, 2, 3, 4, 8, 16, 31, 32, 200)] == [0, 0, 1, 1, 2, 3, 4, 4, 5, 5]
    assert len(SHADES) == 5


def test_pieces_behind_a_context_are_what_they_add_to_it(tokens: Tokens) -> None:
    def decode(ids: Sequence[int]) -> str:
        return tokens._tokenizer.decode(list(ids), skip_special_tokens=True)

    ids = tokens.ids("a fox, a 🦊 and a fox")
    for cut in range(len(ids) + 1):
        before, after = ids[:cut], ids[cut:]
        pieces = token_pieces(decode, after, before)
        assert len(pieces) == len(after)
        assert decode(before).rstrip("\ufffd") + "".join(pieces) == decode(ids) or not after
