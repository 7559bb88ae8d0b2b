"""Numbers for n-grams: every distinct n-gram of some texts gets an id, all orders in one id space."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rayfit.score.tokens import TokenTexts


@dataclass(frozen=True)
class NgramTable:
    """The distinct n-grams of some texts.

    An n-gram is known by the pair (id of its first n - 1 tokens, id of its last token), packed in one int64:
    `keys[n - 1]` holds these sorted, and the place of a key plus `bases[n - 1]` is the n-gram's id.
    """

    keys: tuple[np.ndarray, ...]
    bases: tuple[int, ...]

    @property
    def num_grams(self) -> int:
        """Distinct n-grams of all orders together; ids run from 0 to this, exclusive."""
        return self.bases[-1] + len(self.keys[-1])

    def ids(self, texts: TokenTexts) -> np.ndarray:
        """Id of the n-gram that starts at each token, int32 (max_order, num_tokens_in_all).

        -1 where the n-gram would run over the end of its text, or is not in the table.
        """
        places = _look_up(self.keys[0], texts.tokens)
        ids = np.full((len(self.keys), len(texts.tokens)), -1, dtype=np.int32)
        ids[0] = places
        first = places
        for order in range(2, len(self.keys) + 1):
            pairs = _pairs(places, first, order, texts, len(self.keys[0]))
            places = _look_up(self.keys[order - 1], pairs)
            ids[order - 1] = np.where(places < 0, -1, places + self.bases[order - 1])
        return ids


def ngram_table(texts: TokenTexts, max_order: int) -> tuple[NgramTable, np.ndarray]:
    """The table of all n-grams of `texts`, n from 1 to `max_order`, and what its `ids(texts)` would give.

    No n-gram runs across the border of two texts.
    """
    keys = [np.unique(texts.tokens)]
    first = places = _look_up(keys[0], texts.tokens)
    bases = [0]
    ids = np.full((max_order, len(texts.tokens)), -1, dtype=np.int32)
    ids[0] = first
    for order in range(2, max_order + 1):
        pairs = _pairs(places, first, order, texts, len(keys[0]))
        bases.append(bases[-1] + len(keys[-1]))
        keys.append(np.unique(pairs[pairs >= 0]))
        places = _look_up(keys[-1], pairs)
        ids[order - 1] = np.where(places < 0, -1, places + bases[-1])
    return NgramTable(tuple(keys), tuple(bases)), ids


def _pairs(
    before: np.ndarray, first: np.ndarray, order: int, texts: TokenTexts, num_first: int
) -> np.ndarray:
    """Packed (id of the first `order` - 1 tokens, id of the last); -1 where unknown or the text ends."""
    pairs = np.full(len(first), -1, dtype=np.int64)
    num = len(first) - order + 1
    if num <= 0:
        return pairs
    last = first[order - 1 :]
    ends = np.repeat(texts.offsets[1:], texts.lengths)[:num]
    fits = (np.arange(num) + order <= ends) & (before[:num] >= 0) & (last >= 0)
    pairs[:num] = np.where(fits, before[:num] * num_first + last, -1)
    return pairs


def _look_up(keys: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Place of each wanted value among the sorted keys, -1 where it is not among them; int64."""
    if not len(keys):
        return np.full(len(wanted), -1, dtype=np.int64)
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[places] == wanted, places, -1)


@dataclass(frozen=True)
class Postings:
    """The documents in which each n-gram stands, and how often.

    Those of n-gram `g` are `documents[starts[g]:starts[g + 1]]` (int32) with `counts` (int32) beside them.
    """

    starts: np.ndarray
    documents: np.ndarray
    counts: np.ndarray


def postings(table: NgramTable, grams: np.ndarray, texts: TokenTexts) -> Postings:
    """Postings of the n-grams `grams`, which are `table.ids(texts)`, with each text as one document."""
    num_texts = max(len(texts), 1)
    text_of_token = np.repeat(np.arange(len(texts)), texts.lengths)
    known = grams >= 0
    documents = np.broadcast_to(text_of_token, grams.shape)[known]
    pairs, counts = np.unique(grams[known].astype(np.int64) * num_texts + documents, return_counts=True)
    starts = np.searchsorted(pairs, np.arange(table.num_grams + 1, dtype=np.int64) * num_texts)
    return Postings(starts, (pairs % num_texts).astype(np.int32), counts.astype(np.int32))
