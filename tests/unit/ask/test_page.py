"""The page of an answer: columns or one below the other, facts, and the table of predictions."""

from __future__ import annotations

import re

import pytest

from rayfit.ask.columns import BORDER
from rayfit.ask.page import NARROWEST_COLUMN, facts, page
from rayfit.ask.request import Answer, Prediction, Text

ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


def text(words: str, runs: list[int] | None = None, **options: int | bool) -> Text:
    pieces = tuple(f" {word}" for word in words.split())
    return Text(
        pieces=pieces,
        repeated_runs=tuple(runs or [0] * len(pieces)),
        num_distinct=len(set(pieces)),
        **{"ended": False, **options},  # type: ignore[arg-type]
    )


ANSWER = Answer(prompt="Say it", texts=(text("a b a b a b", [0, 0, 1, 2, 3, 4]), text("one two three")))
TITLES = ("before: small", "after: some-trial-n8")


def test_two_texts_stand_beside_each_other_where_the_terminal_is_wide() -> None:
    lines = page(ANSWER, TITLES, width=80, color=False).splitlines()
    assert lines[:2] == ["prompt:", "  Say it"]
    texts = [line.split(BORDER.strip()) for line in lines if " a b" in line]
    assert [[part.strip() for part in line] for line in texts] == [["a b a b a b", "one two three"]]
    assert max(map(len, lines)) <= 80


def test_one_below_the_other_where_it_is_narrow() -> None:
    narrow = 2 * NARROWEST_COLUMN + len(BORDER) - 1
    lines = page(ANSWER, TITLES, width=narrow, color=False).splitlines()
    assert not any(BORDER.strip() in line for line in lines)
    assert lines.index("before: small") < lines.index(" a b a b a b") < lines.index("after: some-trial-n8")
    assert BORDER in page(ANSWER, TITLES, width=narrow + 1, color=False)


@pytest.mark.parametrize("width", [10, 30, 67, 80, 200])
def test_colour_adds_only_colour(width: int) -> None:
    without = page(ANSWER, TITLES, width=width, color=False)
    colored = page(ANSWER, TITLES, width=width, color=True)
    assert "\x1b" not in without
    assert ESCAPE.sub("", colored) == without
    # runs of 2, 3 and 4: two shades
    assert re.findall(r"\x1b\[30;48;5;(\d+)m([^\x1b]*)\x1b\[0m", colored) == [("230", " b a"), ("223", " b")]


def test_facts_count_what_is_there_and_nothing_else() -> None:
    assert facts(ANSWER.texts[0]) == ["6 tokens; 2 distinct", "longest run repeated: 4 tokens"]
    blocked = text("a", ended=True, steps_banned=3, steps_changed=0, longest_cited=1)
    assert facts(blocked) == [
        "1 token, ended by end-of-text; 1 distinct",
        "longest run repeated: 0 tokens",
        "longest run of the blocked texts: 1 token",
        "blocker: a ban in force at 3 of 1 steps, which changed the choice at 0",
    ]


def test_an_empty_continuation_is_a_page_too() -> None:
    empty = Text(pieces=(), repeated_runs=(), num_distinct=0, ended=False)
    assert "0 tokens; 0 distinct" in page(Answer(prompt="x", texts=(empty,)), ["m"], width=40, color=True)


def predictions() -> tuple[tuple[Prediction, ...], ...]:
    sure = Prediction(best=(("␣United", 0.928), ("␣City", 0.05)), token="␣United", probability=0.928, rank=1)
    unsure = Prediction(best=(("␣is", 0.31), ("␣City", 0.2)), token="␣United", probability=0.0001, rank=57)
    certain = Prediction(best=(("⏎", 0.99999), ("x", 0.0)), token="⏎", probability=0.99999, rank=1)
    return ((unsure, certain), (sure, certain))


def test_the_table_shows_every_place_with_the_token_that_stands_there() -> None:
    answer = Answer(prompt="Say it", texts=ANSWER.texts, predictions=predictions(), num_prompt_tokens=1)
    shown = page(answer, TITLES, width=100, color=False)
    table = [[part.strip() for part in line.split(BORDER.strip())] for line in shown.splitlines()]
    at = next(place for place, row in enumerate(table) if row[0].split() == ["1", "␣United"])
    fields = [[cell.split() for cell in row[1:]] for row in table[at : at + 3]]
    assert fields[0] == [["␣is", "31.0%"], ["*", "␣United", "92.8%"]]
    assert fields[1] == [["␣City", "20.0%"], ["␣City", "5.0%"]]
    assert fields[2] == [["*", "␣United", "<0.1%", "#57"], []]
    assert set(table[at + 3][0]) == {"─"}  # the prompt ends here
    assert table[at + 4][0].split() == ["2", "⏎"]
    assert table[at + 4][1].split() == ["*", "⏎", ">99.9%"]
    assert table[at + 5][1].split() == ["x", "0.0%"]


@pytest.mark.parametrize("width", [44, 60, 67, 80, 120])
def test_the_table_fits_the_terminal(width: int) -> None:
    long = Prediction(
        best=(("␣internationalisation", 0.5),), token="␣文文文文文文文文文文", probability=0.1, rank=9
    )
    answer = Answer(prompt="x", texts=ANSWER.texts, predictions=((long,), (long,)), num_prompt_tokens=1)
    shown = page(answer, TITLES, width=width, color=False)
    assert max(len(line) for line in shown.splitlines()) <= width
    assert "…" in shown
