"""Texts in columns: nothing is lost, nothing is wider than its column, nothing steers the terminal."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayfit.ask.columns import BORDER, beside, characters, legend, padded, plain, wrap
from rayfit.report.shading import SHADES, shade_of

ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


def text_of(line: list[tuple[str, int]]) -> str:
    return "".join(character for character, _ in line)


def cells(text: str) -> int:
    """Widths by hand of the characters used here: ideographs 2, combining accents 0, the rest 1."""
    return sum(2 if "\u4e00" <= each <= "\u9fff" else 0 if each == "\u0301" else 1 for each in text)


@given(st.text(st.sampled_from("ab c\n文\u0301"), max_size=60), st.integers(2, 12))
def test_wrapping_keeps_every_character_but_spaces_at_breaks(text: str, width: int) -> None:
    lines = [text_of(line) for line in wrap(plain(text), width)]
    assert all(cells(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace("\n", "").replace(" ", "")
    # a line break of the text is one of the lines
    assert len(lines) >= text.count("\n") + 1


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("one two three", 8, ["one two", "three"]),
        ("one two", 7, ["one two"]),
        ("    indented\nnext", 20, ["    indented", "next"]),
        ("abcdefghij", 4, ["abcd", "efgh", "ij"]),
        ("ab cdefghij", 4, ["ab", "cdef", "ghij"]),
        ("文文文", 5, ["文文", "文"]),
        ("", 5, [""]),
    ],
)
def test_where_lines_are_broken(text: str, width: int, lines: list[str]) -> None:
    assert [text_of(line) for line in wrap(plain(text), width)] == lines


def test_shades_survive_wrapping_and_are_painted_only_in_colour() -> None:
    line = characters(["ab ", "cd"], [0, 3])
    wrapped = wrap(line, 3)
    assert [character for part in wrapped for character, shade in part if shade == 3] == ["c", "d"]
    (plain_row,) = beside([[line], [plain("x")]], [6, 1], color=False)
    (colored,) = beside([[line], [plain("x")]], [6, 1], color=True)
    assert plain_row == f"ab cd {BORDER}x"
    assert ESCAPE.sub("", colored) == plain_row
    assert re.search(r"\x1b\[[0-9;]+mcd\x1b\[0m", colored)


def test_columns_of_unequal_length_stay_beside_each_other() -> None:
    rows = beside([wrap(plain("a\nb"), 3), wrap(plain("1\n2\n3"), 3)], [3, 3], color=False)
    assert rows == [f"a  {BORDER}1", f"b  {BORDER}2", f"   {BORDER}3"]


def test_what_could_steer_a_terminal_is_shown_as_a_dot() -> None:
    assert text_of(characters(["\x1b[31mred\x07", "\ttab", "\u202e"], [0, 0, 0])) == "·[31mred·    tab·"


@given(st.text(st.sampled_from("ab文"), max_size=12), st.integers(2, 8))
def test_padding_gives_exactly_the_width(text: str, width: int) -> None:
    line = text_of(padded(plain(text), width))
    assert cells(line) == width
    assert line.startswith(text) or line.rstrip().endswith("…")


def test_shades_begin_where_the_legend_says() -> None:
    shown = legend()
    for place, (begin, name) in enumerate(SHADES, start=1):
        assert name.startswith(str(begin)) and shade_of(begin) == place == shade_of(begin - 1) + 1
        assert text_of([entry for entry in shown if entry[1] == place]) == f" {name} "
