"""The citation blocker: which tokens may not come next, from the last tokens of each text alone."""

from __future__ import annotations

import numpy as np
from numba import njit

from rayfit.decoding import Block, Decoding
from rayfit.errors import RayfitError
from rayfit.generate.index import BlockIndex, _slot


class Blocker:
    """Bans for a batch of texts. It keeps no state: every step is decided from the texts alone.

    W0 bans every recorded continuation of the last `run` tokens, W1 those of them that start a word. W2 bans
    what the rows have at the next word start after any run that ended since the last word start of the text,
    that token included; so a flag raised inside a word holds until a new word is begun. W2 bans at least what
    W1 bans.
    """

    def __init__(self, index: BlockIndex, block: Block) -> None:
        """Raises RayfitError where index and block disagree about the run's length."""
        if index.run != block.run:
            raise RayfitError(
                f"decoding.block_run: {block.run}, but the index was built for runs of {index.run}"
            )
        self.index = index
        self.block = block
        if block.wait == "W1":
            self._pointers, self._ids = _only(index.next_ptr, index.next_ids, index.starts_word)
        elif block.wait == "W2":
            self._pointers, self._ids = index.word_ptr, index.word_ids
        else:
            self._pointers, self._ids = index.next_ptr, index.next_ids
        self._rows_out = np.empty(1024, dtype=np.int64)
        self._ids_out = np.empty(1024, dtype=np.int64)

    @property
    def reach(self) -> int | None:
        """The number of last tokens of a text that decide; None where all do (W2: a word may be long)."""
        return None if self.block.wait == "W2" else self.block.run

    def bans(self, texts: np.ndarray, first: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Banned next tokens as pairs (row, token id), both int64 [bans], ordered by row; W2 may repeat a
        pair. Both are views that the next call overwrites.

        texts: int64 [rows, tokens], at least the last `reach` tokens of each text, right-aligned.
        first: int64 [rows], column where each row's text begins (before it is padding, or what does not
            count).
        """
        while True:
            count = _bans(
                texts,
                first,
                self.index.run,
                self.block.wait == "W2",
                self.index.starts_word,
                self.index.tokens,
                self.index.table,
                self.index.gram_at,
                self._pointers,
                self._ids,
                self._rows_out,
                self._ids_out,
            )
            if count <= self._rows_out.size:
                return self._rows_out[:count], self._ids_out[:count]
            self._rows_out = np.empty(2 * count, dtype=np.int64)
            self._ids_out = np.empty(2 * count, dtype=np.int64)


def make_blocker(decoding: Decoding, index: BlockIndex | None) -> Blocker | None:
    """The blocker of a decoding, or None where it has none; raises RayfitError where it lacks its index."""
    if decoding.block is None:
        return None
    if index is None:
        raise RayfitError(
            f"decoding {decoding.name!r}: the blocker needs the training rows; no index was given"
        )
    return Blocker(index, decoding.block)


def _only(pointers: np.ndarray, ids: np.ndarray, keep: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The CSR with only the ids that `keep` marks."""
    kept = keep[ids]
    before = np.zeros(ids.size + 1, dtype=np.int64)
    np.cumsum(kept, out=before[1:])
    return before[pointers], ids[kept]


@njit(cache=True, nogil=True)
def _bans(
    texts: np.ndarray,
    first: np.ndarray,
    run: int,
    through_word: bool,
    starts_word: np.ndarray,
    tokens: np.ndarray,
    table: np.ndarray,
    gram_at: np.ndarray,
    pointers: np.ndarray,
    ids: np.ndarray,
    rows_out: np.ndarray,
    ids_out: np.ndarray,
) -> int:
    """Write the pairs, return how many there are; more than the arrays hold: call again with longer ones."""
    count = 0
    for row in range(texts.shape[0]):
        end = texts.shape[1]
        while end - run >= first[row]:
            gram = table[_slot(texts[row, end - run : end], tokens, table, gram_at)]
            if gram >= 0:
                for at in range(pointers[gram], pointers[gram + 1]):
                    if count < rows_out.size:
                        rows_out[count] = row
                        ids_out[count] = ids[at]
                    count += 1
            if not through_word or starts_word[texts[row, end - 1]]:
                break
            end -= 1
    return count
