"""Documents from local files: what a file or folder holds, one named text per document."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rayfit.errors import RayfitError
from rayfit.text_files import local_files, table_column


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
