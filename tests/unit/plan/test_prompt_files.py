"""Prompts of one's own: the forms of their file."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from rayfit.errors import RayfitError
from rayfit.plan.prompt_files import file_and_column, read_prompts

PROMPTS = ("Once upon a time", "two\nlines", " kept as it is ")


def read(path: Path, text_column: str = "text") -> tuple[str, ...]:
    return read_prompts(path, text_column=text_column)


def refusal(path: Path, text_column: str = "text") -> str:
    with pytest.raises(RayfitError) as caught:
        read(path, text_column)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_text_file_has_one_prompt_per_line(tmp_path: Path) -> None:
    file = tmp_path / "p.txt"
    file.write_bytes(b"\xef\xbb\xbfOnce upon a time\r\n\n  \n kept as it is \n")
    assert read(file) == ("Once upon a time", " kept as it is ")


def test_tables_have_one_prompt_per_row(tmp_path: Path) -> None:
    table = pl.DataFrame({"text": PROMPTS, "other": [1, 2, 3]})
    table.write_parquet(tmp_path / "p.parquet")
    table.write_csv(tmp_path / "p.csv")
    table.write_ndjson(tmp_path / "p.jsonl")
    assert {read(tmp_path / f"p.{suffix}") for suffix in ("parquet", "csv", "jsonl")} == {PROMPTS}
    table.rename({"text": "prompt"}).write_parquet(tmp_path / "p.parquet")
    assert read(tmp_path / "p.parquet", "prompt") == PROMPTS
    named = f"{tmp_path / 'p.parquet'}:prompt"
    assert file_and_column(named, "text") == (tmp_path / "p.parquet", "prompt")
    for other in (str(tmp_path / "p.parquet"), str(tmp_path / "none.csv:prompt")):
        assert file_and_column(other, "text") == (Path(other), "text")
    assert "no column 'text'" in refusal(tmp_path / "p.parquet")
    assert "is Int64, expected text" in refusal(tmp_path / "p.parquet", "other")


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("p.txt", b"", "holds no prompt; give one per line"),
        ("p.txt", b"\n \n", "holds no prompt; give one per line"),
        ("p.txt", b"\xff\xfe", "cannot be read as UTF-8"),
        ("p.jsonl", b'{"text": "a"}\n{"text": " "}\n', "prompt 2 of "),
        ("p.jsonl", b'{"text": null}\n{"text": "a"}\n', "prompt 1 of "),
        ("p.jsonl", b'{"text": \n', "cannot be read as jsonl"),
        ("p.csv", b"", "cannot be read as csv"),
        ("p.csv", b"text\n", "holds no prompt; give one per row"),
        ("p.csv", b"text\n\xff\xfe\n", "cannot be read as csv"),
        ("p.json", b"[]", "expected .jsonl"),
    ],
)
def test_what_is_no_file_of_prompts(tmp_path: Path, name: str, content: bytes, part: str) -> None:
    (tmp_path / name).write_bytes(content)
    message = refusal(tmp_path / name)
    assert message.startswith("--prompts: ") and part in message


@pytest.mark.parametrize("name", ["none.txt", "none.jsonl", "none.csv", "none.parquet", "."])
def test_a_file_that_is_not_there(tmp_path: Path, name: str) -> None:
    message = refusal(tmp_path / name)
    assert message.startswith("--prompts: ") and "cannot be read" in message
