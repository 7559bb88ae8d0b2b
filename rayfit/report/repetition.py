"""A text in pieces, coloured by how long a run of tokens repeats what stood earlier in it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rayfit.report.shading import shade_of, token_pieces


@dataclass(frozen=True)
class Span:
    """Neighbouring text of one shade: 0 for what is new, up to 5 for the end of runs of 32 tokens and more."""

    text: str
    level: int


class Tokens:
    """The tokenizer of a checkpoint, from its `tokenizer.json` alone, so that no model library is needed."""

    def __init__(self, path: str) -> None:
        """Raises whatever the file's reader raises for a file that is no tokenizer."""
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(path)

    def ids(self, text: str) -> list[int]:
        """The token ids of a text, without special tokens."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The text of each token, as `token_pieces` gives it."""
        return token_pieces(lambda some: self._tokenizer.decode(list(some), skip_special_tokens=True), ids)


def spans_of_tokens(tokens: Tokens, ids: Sequence[int], text: str) -> list[Span] | None:
    """The spans of a generated text, or None where the tokenizer does not give back exactly this text."""
    pieces = tokens.pieces(ids)
    if "".join(pieces) != text or not ids:
        return None
    return _merged(pieces, _runs(ids))


def spans_of_words(text: str) -> list[Span]:
    """The spans of a text by words, where there are no tokens."""
    words = re.findall(r"\s*\S+(?:\s+$)?", text)
    if not words:
        return [Span(text, 0)] if text else []
    numbers: dict[str, int] = {}
    ids = [numbers.setdefault(word.strip(), len(numbers)) for word in words]
    return _merged(words, _runs(ids))


def _runs(ids: Sequence[int]) -> list[int]:
    # Compiled kernels, whose compiler takes half a second to import.
    from rayfit.score.overlap import repeated_runs

    return list(repeated_runs([list(ids)])[0].tolist())


def _merged(pieces: Sequence[str], runs: Sequence[int]) -> list[Span]:
    spans: list[Span] = []
    for piece, run in zip(pieces, runs, strict=True):
        level = shade_of(run)
        if spans and (spans[-1].level == level or not piece):
            spans[-1] = Span(spans[-1].text + piece, spans[-1].level)
        elif piece:
            spans.append(Span(piece, level))
    return spans
