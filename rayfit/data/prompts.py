"""Prompts of one's own: read from a file, tokenized whole, and made into contexts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from rayfit.data.documents import TABLES, table_column
from rayfit.data.rows import Tokenize
from rayfit.errors import RayfitError

_FLAG = "--prompts"


def file_and_column(given: str, text_column: str) -> tuple[Path, str]:
    """The file that `FILE` or `FILE:COLUMN` names, and the column where it is a table; `text_column` is the default."""
    before, _, column = given.rpartition(":")
    if before and column and (table := Path(before).expanduser()).suffix in TABLES and table.is_file():
        return table, column
    return Path(given).expanduser(), text_column


def read_prompts(path: Path, *, text_column: str) -> tuple[str, ...]:
    """The prompts of a file, in its order.

    parquet, jsonl and csv: one prompt per row of `text_column`. Any other file is UTF-8 text with one prompt per line;
    blank lines are left out. Raises RayfitError, in one line, for a file that cannot be read or holds no prompt, and
    for a row of a table that is empty.
    """
    if path.suffix in TABLES:
        return _of_table(path, text_column)
    if path.suffix == ".json":
        raise RayfitError(
            f"{_FLAG}: {path} ends in '.json'; expected .jsonl, or text with one prompt per line"
        )
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RayfitError(f"{_FLAG}: {path} cannot be read as UTF-8 text: {error}") from error
    prompts = tuple(line for line in lines if line.strip())
    if not prompts:
        raise RayfitError(f"{_FLAG}: {path} holds no prompt; give one per line")
    return prompts


def _of_table(path: Path, text_column: str) -> tuple[str, ...]:
    prompts = table_column(path, text_column, where=_FLAG)
    if not prompts:
        raise RayfitError(f"{_FLAG}: {path} holds no prompt; give one per row")
    for place, prompt in enumerate(prompts, start=1):
        if prompt is None or not prompt.strip():
            raise RayfitError(f"{_FLAG}: prompt {place} of {path} is empty; give the text to be continued")
    return tuple(prompt for prompt in prompts if prompt is not None)


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
        key = flag if len(prompts) == 1 else f"{flag}, prompt {place} of {len(prompts)}"
        ids = list(tokenize(prompt))
        if not ids:
            raise RayfitError(f"{key}: {prompt!r} gives no token under the tokenizer of {model}")
        if bos_id is not None:
            ids.insert(0, bos_id)
        if window is not None:
            _check_length(len(ids), num_new_tokens, window, f"the context window of {model}", key)
        found.append(ids)
    return found


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
