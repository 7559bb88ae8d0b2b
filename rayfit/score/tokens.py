"""Texts as token ids: the one form in which every score takes them, and the checks on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import polars as pl

from rayfit.errors import RayfitError

TOO_LARGE = 2**31


@dataclass(frozen=True)
class TokenTexts:
    """Texts of any lengths in one array: text `i` is `tokens[offsets[i]:offsets[i + 1]]`.

    `tokens` is int64 (num_tokens_in_all,) with ids in [0, 2**31); `offsets` is int64 (num_texts + 1,).
    """

    tokens: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each text, int64 (num_texts,)."""
        return np.diff(self.offsets)

    def first(self, num_tokens: int) -> TokenTexts:
        """The same texts, each cut to its first `num_tokens` tokens."""
        kept = np.minimum(self.lengths, num_tokens)
        if np.array_equal(kept, self.lengths):
            return self
        positions = np.arange(len(self.tokens)) - np.repeat(self.offsets[:-1], self.lengths)
        return TokenTexts(self.tokens[positions < num_tokens], _offsets(kept))


Texts: TypeAlias = TokenTexts | np.ndarray | pl.Series | Sequence[Any]
"""What every score accepts: (num_texts, num_tokens) integers, a list of 1-D integer arrays or lists, a polars
column of integer lists, or `TokenTexts`."""


def token_texts(texts: Texts, what: str = "texts") -> TokenTexts:
    """`texts` in the form that the scores work on; `what` names them in errors.

    Raises RayfitError for ids that are no integers, are negative or 2**31 and above, for a missing text,
    and for a single text where a list of texts is due. Empty texts are allowed here: each score says what
    it makes of them.
    """
    if isinstance(texts, TokenTexts):
        return texts
    if isinstance(texts, pl.Series):
        flat, lengths = _from_series(texts, what)
    elif isinstance(texts, np.ndarray) and texts.dtype != object:
        if texts.ndim != 2:
            raise RayfitError(
                f"{what}: expected an array of shape (num_texts, num_tokens), got {texts.ndim} dimension(s); "
                "one text is given as [text]"
            )
        flat, lengths = texts.reshape(-1), np.full(texts.shape[0], texts.shape[1], dtype=np.int64)
    else:
        flat, lengths = _from_sequence(texts, what)
    if flat.size and not np.issubdtype(flat.dtype, np.integer):
        raise RayfitError(f"{what}: token ids must be integers, got {flat.dtype}")
    offsets = _offsets(lengths)
    _refuse(what, flat, offsets, (flat < 0) | (flat >= TOO_LARGE), "is outside 0 to 2147483647")
    return TokenTexts(flat.astype(np.int64), offsets)


def check_vocabulary(texts: Texts, vocabulary_size: int, what: str = "texts") -> None:
    """Raise RayfitError, naming the first text and position, where an id is not below `vocabulary_size`."""
    checked = token_texts(texts, what)
    _refuse(
        what,
        checked.tokens,
        checked.offsets,
        checked.tokens >= vocabulary_size,
        f"is not in the vocabulary of {vocabulary_size} ids: were these texts made with another tokenizer?",
    )


def drop_leading(texts: Texts, token_id: int | None) -> TokenTexts:
    """The texts without their first token where it is `token_id` (BOS of training rows); None: as given."""
    given = token_texts(texts)
    if token_id is None:
        return given
    starts = given.offsets[:-1][given.lengths > 0]
    dropped = starts[given.tokens[starts] == token_id]
    keep = np.ones(len(given.tokens), dtype=bool)
    keep[dropped] = False
    num_kept_before = np.concatenate([[0], np.cumsum(keep)])
    return TokenTexts(given.tokens[keep], num_kept_before[given.offsets])


def _offsets(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths, dtype=np.int64)])


def _from_series(texts: pl.Series, what: str) -> tuple[np.ndarray, np.ndarray]:
    if not isinstance(texts.dtype, pl.List | pl.Array):
        raise RayfitError(f"{what}: expected a column of integer lists, got {texts.dtype}")
    if texts.null_count():
        raise RayfitError(f"{what}: text {texts.is_null().arg_max()} is missing (null)")
    lists = texts.arr.to_list() if isinstance(texts.dtype, pl.Array) else texts
    lengths = lists.list.len().to_numpy().astype(np.int64)
    # Exploding turns an empty list into a null; whatever nulls are left over were inside a text.
    flat = lists.explode().drop_nulls()
    if len(flat) != lengths.sum():
        raise RayfitError(f"{what}: a token id is missing (null)")
    return flat.to_numpy(), lengths


def _from_sequence(texts: Any, what: str) -> tuple[np.ndarray, np.ndarray]:
    if isinstance(texts, str):
        raise RayfitError(f"{what}: expected token ids, got a string; encode it first")
    try:
        arrays = [np.asarray(text) for text in texts]
    except ValueError as error:  # lists of unequal lengths inside a text
        raise RayfitError(f"{what}: a text is no run of token ids: {error}") from error
    wrong = next((i for i, array in enumerate(arrays) if array.ndim != 1), None)
    if wrong is not None:
        raise RayfitError(
            f"{what}: text {wrong} is not a one-dimensional run of token ids; one text is given as [text]"
        )
    filled = [array for array in arrays if array.size]
    flat = np.concatenate(filled) if filled else np.zeros(0, dtype=np.int64)
    return flat, np.fromiter(map(len, arrays), dtype=np.int64, count=len(arrays))


def _refuse(what: str, tokens: np.ndarray, offsets: np.ndarray, wrong: np.ndarray, why: str) -> None:
    if wrong.any():
        at = int(wrong.argmax())
        text = int(np.searchsorted(offsets, at, side="right")) - 1
        raise RayfitError(f"{what}: text {text}, position {at - offsets[text]}: token id {tokens[at]} {why}")
