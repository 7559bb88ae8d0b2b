"""Documents from local files: what a file or folder holds, one named text per document."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from rayfit.errors import RayfitError, first_line, nearest

TABLES = (".parquet", ".jsonl", ".csv")
SUFFIXES = (*TABLES, ".txt")


@dataclass(frozen=True)
class Document:
    """One source text. The name decides, by its hash, whether it is held out, so it must not depend on a path.

    `held_out_by` is the name that decides instead, where documents must be on one side together.
    """

    name: str
    text: str
    held_out_by: str = ""

    @property
    def split_name(self) -> str:
        """The name whose hash decides whether the document is held out."""
        return self.held_out_by or self.name


def local_files(path: Path) -> list[Path]:
    """The files that make up a local dataset, sorted; raises RayfitError when there is nothing that can be read."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*.txt") if file.is_file())
        if not files:
            raise RayfitError(
                f"dataset: the folder {path} holds no .txt file (a folder is one document per .txt file)"
            )
        return files
    if not path.is_file():
        raise RayfitError(f"dataset: there is no file or folder {path}")
    if path.suffix not in SUFFIXES:
        hint = nearest(path.suffix, SUFFIXES)
        raise RayfitError(
            f"dataset: {path} ends in {path.suffix!r}; expected one of {', '.join(SUFFIXES)}{hint}"
        )
    return [path]


def read_documents(path: Path, *, text_column: str, span_characters: int) -> list[Document]:
    """All documents of a local file or folder, in file order.

    parquet, jsonl and csv: one document per row of `text_column`. A folder: one document per .txt file. A single
    .txt: its blank-line paragraphs, joined until each document has at least `span_characters` characters.
    Raises RayfitError for a missing column, a column that is not text, or text that is not UTF-8.
    """
    files = local_files(path)
    if path.is_dir():
        return [Document(file.relative_to(path).as_posix(), _read_text(file)) for file in files]
    if path.suffix == ".txt":
        return _paragraphs(path, span_characters)
    texts = table_column(path, text_column)
    return [Document(f"{path.stem}/{row:06d}", text) for row, text in enumerate(texts) if text]


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")  # a byte-order mark is no text
    except UnicodeDecodeError as error:
        raise RayfitError(f"dataset: {file} is not UTF-8 text (byte {error.start})") from error


def _paragraphs(file: Path, span_characters: int) -> list[Document]:
    paragraphs = (part for part in _read_text(file).split("\n\n") if part.strip())
    return [
        Document(f"{file.stem}/{number:06d}", text)
        for number, text in enumerate(joined(paragraphs, "\n\n", span_characters))
    ]


def joined(parts: Iterable[str], separator: str, at_least: int) -> Iterator[str]:
    """Consecutive parts joined until a text has `at_least` characters; the last may have fewer."""
    held: list[str] = []
    for part in parts:
        held.append(part)
        if sum(map(len, held)) + len(separator) * (len(held) - 1) >= at_least:
            yield separator.join(held)
            held = []
    if held:
        yield separator.join(held)


def table_column(file: Path, text_column: str, *, where: str = "dataset") -> list[str | None]:
    """The texts of a column of a parquet, jsonl or csv file, None where a row has none.

    Raises RayfitError for a file that cannot be read, which begins with `where`, and for a column that is missing or
    not text.
    """
    try:
        match file.suffix:
            case ".parquet":
                table = pl.read_parquet(file)
            case ".jsonl":
                table = pl.read_ndjson(file, infer_schema_length=None)
            case _:
                table = pl.read_csv(file, infer_schema_length=None)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = first_line(error)
        raise RayfitError(f"{where}: {file} cannot be read as {file.suffix[1:]}: {reason}") from error
    if text_column not in table.columns:
        hint = nearest(text_column, table.columns)
        raise RayfitError(
            f"--text-column: {file} has no column {text_column!r}; it has {', '.join(table.columns)}{hint}"
        )
    if table.schema[text_column] != pl.String:
        raise RayfitError(
            f"--text-column: {text_column!r} of {file} is {table.schema[text_column]}, expected text"
        )
    return table[text_column].to_list()
