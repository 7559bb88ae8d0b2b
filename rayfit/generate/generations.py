"""The result of a generation run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Generations:
    """The generated tokens of every context, in the order of the contexts.

    tokens: int32 [contexts, longest], new tokens only, -1 after a text's end. lengths: int32 [contexts].
    ended: bool [contexts], whether a special id ended the text (it is its last token).
    steps_banned, steps_changed: int32 [contexts], steps at which a ban was in force, and at which it changed
        the choice (for sampling: from what the same random number would have chosen); None without a blocker.
    batch_sizes: how many texts were computed at once, batch by batch.
    """

    tokens: np.ndarray
    lengths: np.ndarray
    ended: np.ndarray
    steps_banned: np.ndarray | None = None
    steps_changed: np.ndarray | None = None
    batch_sizes: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.lengths)

    def ids(self, place: int) -> np.ndarray:
        """The token ids of one text, int32 of its true length."""
        return self.tokens[place, : self.lengths[place]]
