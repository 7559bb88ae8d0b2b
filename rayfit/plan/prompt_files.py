"""The file of prompts of one's own, as `--prompts` names it, and what it holds."""

from __future__ import annotations

from pathlib import Path

from rayfit.errors import RayfitError
from rayfit.text_files import TABLES, table_column

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
