"""Texts beside each other on a terminal: wrapped, in columns, shaded by how long a run they repeat."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from itertools import groupby, zip_longest

from rayfit.report.shading import SHADES

Line = list[tuple[str, int]]
"""Characters with their shades; 0 is none."""

BORDER = " │ "

_BACKGROUNDS = (230, 223, 216, 209, 203)
_RESET = "\x1b[0m"


def characters(pieces: Iterable[str], shades: Iterable[int]) -> Line:
    """Pieces of a text as characters, each in its piece's shade, and none that could steer the terminal.

    A tab is four spaces, other space than line breaks one, what cannot be shown a dot.
    """
    return [
        (_shown(character), shade)
        for piece, shade in zip(pieces, shades, strict=True)
        for character in piece.replace("\t", "    ")
    ]


def plain(text: str) -> Line:
    """A text without shades."""
    return characters([text], [0])


def wrap(text: Line, width: int) -> list[Line]:
    """Lines of at most `width` cells, broken at spaces, and inside words that are longer than a line.

    The text's own line breaks stay; a space at which a line is broken is dropped.
    """
    lines: list[Line] = [[]]
    for character, shade in text:
        if character == "\n":
            lines.append([])
            continue
        line = lines[-1]
        line.append((character, shade))
        if _cells(line) <= width:
            continue
        word = next((place + 1 for place in range(len(line) - 1, -1, -1) if line[place][0] == " "), 0)
        if character == " ":
            lines[-1:] = [line[:-1], []]
        elif any(before != " " for before, _ in line[:word]):
            lines[-1:] = [line[: word - 1], line[word:]]
        else:
            lines[-1:] = [line[:-1], line[-1:]]
    return lines


def beside(columns: Sequence[list[Line]], widths: Sequence[int], *, color: bool) -> list[str]:
    """Wrapped columns next to each other, each padded to its width; shades only with `color`."""
    rows = zip_longest(*columns, fillvalue=[])
    return [
        BORDER.join(
            _painted(padded(line, width), color) for line, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    ]


def padded(line: Line, width: int) -> Line:
    """A line filled with spaces to `width` cells, or cut to it, an ellipsis last."""
    if _cells(line) <= width:
        return line + plain(" " * (width - _cells(line)))
    kept = list(line)
    while _cells(kept) > width - 1:
        kept.pop()
    return padded(kept + plain("…"), width)


def legend() -> Line:
    """Return a line that explains the shades."""
    shown: Line = plain("shaded where the text repeats an earlier run of ")
    for place, (_, name) in enumerate(SHADES):
        shown += [*characters([f" {name} "], [place + 1]), (" ", 0)]
    return shown + plain("tokens")


def _shown(character: str) -> str:
    if character == "\n" or character.isprintable():
        return character
    return " " if character.isspace() else "·"


def _painted(line: Line, color: bool) -> str:
    parts = []
    for shade, group in groupby(line, key=lambda entry: entry[1]):
        text = "".join(character for character, _ in group)
        # Black on a light ground can be read on terminals of any theme.
        parts.append(f"\x1b[30;48;5;{_BACKGROUNDS[shade - 1]}m{text}{_RESET}" if shade and color else text)
    return "".join(parts)


def _cells(line: Line) -> int:
    return sum(_width(character) for character, _ in line)


def _width(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
