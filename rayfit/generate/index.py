"""All runs of n tokens of the training rows, and what follows each: exact, linear, asked per batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit

from rayfit.errors import RayfitError


@dataclass(frozen=True)
class BlockIndex:
    """Every `run`-gram of the training rows with the set of tokens that follow it; grams never span two rows.

    tokens: all rows one after another, int32. table: open addressing, gram number or -1, int32, a power of
        two long.
    gram_at: where in `tokens` each gram stands first, int32 [grams].
    next_ptr, next_ids: the distinct next tokens of each gram (CSR, ascending); a gram that only ends rows has
        none.
    word_ptr, word_ids: the distinct first tokens at or after the end of the gram, in its row, that start a
        word.
    starts_word: bool per vocabulary entry. Equality of grams is checked token by token, never by hash alone.
    """

    run: int
    tokens: np.ndarray
    table: np.ndarray
    gram_at: np.ndarray
    next_ptr: np.ndarray
    next_ids: np.ndarray
    word_ptr: np.ndarray
    word_ids: np.ndarray
    starts_word: np.ndarray

    @classmethod
    def build(
        cls,
        rows: Sequence[Sequence[int]] | np.ndarray,
        starts_word: np.ndarray,
        *,
        run: int = 5,
        bos_id: int | None,
    ) -> BlockIndex:
        """Index the rows. `starts_word` as `vocabulary.word_starts` gives it; a leading `bos_id` is dropped.

        Raises RayfitError where there is no row, or a token id lies outside `starts_word`.
        """
        if len(rows) == 0:
            raise RayfitError("citation blocker: no training rows to index")
        arrays = [np.asarray(row, dtype=np.int64) for row in rows]
        arrays = [row[1:] if bos_id is not None and row.size and row[0] == bos_id else row for row in arrays]
        ends = np.cumsum([row.size for row in arrays], dtype=np.int64)
        tokens = np.concatenate(arrays)
        strangers = tokens[(tokens < 0) | (tokens >= len(starts_word))]
        if strangers.size:
            raise RayfitError(
                f"citation blocker: a training row holds token id {int(strangers[0])}, outside the "
                f"vocabulary of {len(starts_word)} entries; are the rows of another tokenizer?"
            )
        flat = tokens.astype(np.int32)
        starts = np.ascontiguousarray(starts_word, dtype=np.bool_)
        # at most half full, so that a search for an absent gram ends after a few probes
        table = np.full(1 << max(4, int(2 * flat.size).bit_length()), -1, dtype=np.int32)
        gram_at, pairs, words = _collect(flat, ends, run, table, starts)
        next_ptr, next_ids = _csr(pairs, gram_at.size)
        word_ptr, word_ids = _csr(words, gram_at.size)
        return cls(run, flat, table, gram_at, next_ptr, next_ids, word_ptr, word_ids, starts)

    @property
    def num_grams(self) -> int:
        """Number of distinct grams."""
        return int(self.gram_at.size)

    @property
    def num_bytes(self) -> int:
        """Bytes of all arrays together."""
        return sum(value.nbytes for value in vars(self).values() if isinstance(value, np.ndarray))

    def find(self, grams: np.ndarray) -> np.ndarray:
        """Gram numbers, int64 [n], of `grams`, int64 [n, run]; -1 where the rows do not hold a gram."""
        found = np.empty(len(grams), dtype=np.int64)
        _find_all(np.ascontiguousarray(grams, dtype=np.int64), self.tokens, self.table, self.gram_at, found)
        return found

    def next_of(self, gram: int) -> np.ndarray:
        """The distinct token ids, ascending int32, that follow gram number `gram` anywhere in the rows."""
        return self.next_ids[self.next_ptr[gram] : self.next_ptr[gram + 1]]


def _csr(pairs: np.ndarray, num_grams: int) -> tuple[np.ndarray, np.ndarray]:
    """Distinct pairs, packed as gram * 2**32 + token, to pointers int64 [grams + 1] and ids int32."""
    # Grams are numbered as they are met, so the pairs are nearly in order; np.unique would hash them all first.
    ordered = np.sort(pairs)
    distinct = ordered[np.diff(ordered, prepend=-1) > 0]
    counts = np.bincount(distinct >> 32, minlength=num_grams)
    pointers = np.zeros(num_grams + 1, dtype=np.int64)
    np.cumsum(counts, out=pointers[1:])
    return pointers, (distinct & 0xFFFFFFFF).astype(np.int32)


@njit(cache=True, nogil=True)
def _slot(gram: np.ndarray, tokens: np.ndarray, table: np.ndarray, gram_at: np.ndarray) -> np.int64:
    """Return the gram's slot in the table, or the free one where it would be."""
    mask = table.size - 1
    code = np.uint64(14695981039346656037)
    for token in gram:
        code = (code ^ np.uint64(token)) * np.uint64(0x9E3779B97F4A7C15)
        code ^= code >> np.uint64(29)
    slot = np.int64(code & np.uint64(mask))
    while table[slot] >= 0:
        at = gram_at[table[slot]]
        same = True
        for offset in range(gram.size):
            if tokens[at + offset] != gram[offset]:
                same = False
                break
        if same:
            return slot
        slot = (slot + 1) & mask
    return slot


@njit(cache=True, nogil=True)
def _collect(
    tokens: np.ndarray, ends: np.ndarray, run: int, table: np.ndarray, starts_word: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fill the table; first places of grams, pairs (gram, next token), pairs (gram, next word start)."""
    gram_at = np.empty(tokens.size, dtype=np.int32)
    pairs = np.empty(tokens.size, dtype=np.int64)
    words = np.empty(tokens.size, dtype=np.int64)
    word_from = np.empty(tokens.size, dtype=np.int32)
    num_grams, num_pairs, num_words, begin = 0, 0, 0, 0
    for end in ends:
        upcoming = -1
        for place in range(end - 1, begin - 1, -1):
            if starts_word[tokens[place]]:
                upcoming = tokens[place]
            word_from[place] = upcoming
        for place in range(begin, end - run + 1):
            slot = _slot(tokens[place : place + run], tokens, table, gram_at)
            gram = table[slot]
            if gram < 0:
                gram = num_grams
                table[slot] = gram
                gram_at[gram] = place
                num_grams += 1
            after = place + run
            if after < end:
                pairs[num_pairs] = (np.int64(gram) << 32) | np.int64(tokens[after])
                num_pairs += 1
                if word_from[after] >= 0:
                    words[num_words] = (np.int64(gram) << 32) | np.int64(word_from[after])
                    num_words += 1
        begin = end
    return gram_at[:num_grams].copy(), pairs[:num_pairs], words[:num_words]


@njit(cache=True, nogil=True)
def _find_all(
    grams: np.ndarray, tokens: np.ndarray, table: np.ndarray, gram_at: np.ndarray, found: np.ndarray
) -> None:
    for row in range(grams.shape[0]):
        found[row] = table[_slot(grams[row], tokens, table, gram_at)]
