"""Prompts of one's own, tokenized whole and made into contexts."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from rayfit.data.rows import Tokenize
from rayfit.errors import RayfitError

_FLAG = "--prompts"


def prompt_ids(
    prompts: Sequence[str],
    tokenize: Tokenize,
    *,
    bos_id: int | None,
    window: int | None,
    num_new_tokens: int,
    model: str,
    flag: str = _FLAG,
) -> list[list[int]]:
    """Each prompt's token ids, whole, BOS first where there is one, as training rows begin.

    `window`: tokens that the model can hold, prompt and new ones together; None for any number. Raises RayfitError,
    beginning with `flag`, for a prompt without a token and for one that is too long, with what fits.
    """
    found = []
    for place, prompt in enumerate(prompts, start=1):
        ids = list(tokenize(prompt))
        if not ids:
            key = _key(flag, place, len(prompts))
            raise RayfitError(f"{key}: {prompt!r} gives no token under the tokenizer of {model}")
        if bos_id is not None:
            ids.insert(0, bos_id)
        found.append(ids)
    check_lengths(list(map(len, found)), window=window, num_new_tokens=num_new_tokens, model=model, flag=flag)
    return found


def check_lengths(
    lengths: Sequence[int], *, window: int | None, num_new_tokens: int, model: str, flag: str = _FLAG
) -> None:
    """Raises RayfitError as `prompt_ids` for the first prompt, of these lengths in tokens, that is too long."""
    for place, length in enumerate(lengths, start=1):
        if window is not None:
            key = _key(flag, place, len(lengths))
            _check_length(length, num_new_tokens, window, f"the context window of {model}", key)


def _key(flag: str, place: int, count: int) -> str:
    return flag if count == 1 else f"{flag}, prompt {place} of {count}"


def _check_length(length: int, num_new_tokens: int, window: int, whose: str, key: str) -> None:
    if length >= window:
        room = window - num_new_tokens
        most = f"; {room} fit before {num_new_tokens} new ones" if room > 0 else ""
        raise RayfitError(f"{key}: its {length} tokens fill {whose}, {window} tokens; shorten it{most}")
    if length + num_new_tokens > window:
        raise RayfitError(
            f"{key}: its {length} tokens and {num_new_tokens} new ones are more than {whose}, {window} tokens; "
            f"at most --num-new-tokens {window - length} fits"
        )


def prompt_rows(prompts: Sequence[str], token_ids: Sequence[Sequence[int]]) -> pl.DataFrame:
    """Prompts as a frame of contexts, whose `token_ids` differ in length; a prompt's `start` is its place, from 1.

    The file's name is in none of it: the same prompts give the same frame.
    """
    places = range(1, len(prompts) + 1)
    return pl.DataFrame(
        {
            "document": ["prompt"] * len(prompts),
            "start": places,
            "end": places,
            "text": list(prompts),
            "token_ids": pl.Series([list(ids) for ids in token_ids], dtype=pl.List(pl.Int32)),
        }
    )
