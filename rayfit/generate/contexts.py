"""Contexts that can be continued: checked before a model is run, named, and fitted into its window."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from rayfit.decoding import Decoding
from rayfit.errors import RayfitError
from rayfit.prepare.model_shape import context_window, vocabulary_size

_MOST_SHOWN = 72


def checked_names(
    contexts: Sequence[Sequence[int]], context_ids: Sequence[str] | None, decoding: Decoding, config: Any
) -> list[str]:
    """The contexts' ids, given or made by `context_hash`.

    Raises RayfitError for a decoding without its temperature (`Decoding.check_generable`); where there is no context,
    one is empty, holds an id outside the vocabulary of the model's `config`, or does not fit into its window with the
    new tokens; and for a wrong number of ids.
    """
    decoding.check_generable()
    if len(contexts) == 0:
        raise RayfitError("generate: no contexts to continue")
    if context_ids is not None and len(context_ids) != len(contexts):
        raise RayfitError(f"generate: {len(context_ids)} context ids for {len(contexts)} contexts")
    vocab_size = vocabulary_size(config)
    for place, context in enumerate(contexts):
        if len(context) == 0:
            raise RayfitError(f"generate: context {place} is empty; it needs one token at least, such as BOS")
        low, high = int(min(context)), int(max(context))
        if low < 0 or high >= vocab_size:
            raise RayfitError(
                f"generate: context {place} holds token id {low if low < 0 else high}, outside the model's "
                f"vocabulary of {vocab_size}; was it tokenized for another model?"
            )
    window, longest = context_window(config), max(len(context) for context in contexts)
    if window is not None and longest + decoding.num_new_tokens > window:
        raise RayfitError(
            f"decoding.num_new_tokens: {decoding.num_new_tokens} after a context of {longest} tokens is more "
            f"than the model's context window of {window}; at most {max(window - longest, 0)} fit"
        )
    if context_ids is None:
        return [context_hash(context) for context in contexts]
    return [str(name) for name in context_ids]


def context_hash(context: Sequence[int]) -> str:
    """sha256 in hex of the context's token ids as little-endian 64-bit integers."""
    return hashlib.sha256(np.asarray(context, dtype="<i8").tobytes()).hexdigest()


def shortened(name: str) -> str:
    """A context's id as an error can show it: it may be a whole prompt."""
    return name if len(name) <= _MOST_SHOWN else name[: _MOST_SHOWN - 1] + "…"
