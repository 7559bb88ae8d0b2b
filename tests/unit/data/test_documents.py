from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayfit.data.documents import Document, read_documents
from rayfit.errors import RayfitError

TEXTS = ["First, with a comma.", 'Second "quoted"\nover two lines.', "Dritter: äöü ✓"]


def _read(path: Path, *, text_column: str = "text", span_characters: int = 10) -> list[Document]:
    return read_documents(path, text_column=text_column, span_characters=span_characters)


def _write(path: Path, frame: pl.DataFrame) -> Path:
    {".parquet": frame.write_parquet, ".jsonl": frame.write_ndjson, ".csv": frame.write_csv}[path.suffix](
        path
    )
    return path


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".csv"])
class TestTables:
    def test_a_row_is_a_document(self, tmp_path: Path, suffix: str) -> None:
        frame = pl.DataFrame({"number": [1, 2, 3], "text": TEXTS})
        found = _read(_write(tmp_path / f"books{suffix}", frame))
        assert found == [Document(f"books/{row:06d}", text) for row, text in enumerate(TEXTS)]

    def test_empty_rows_are_left_out_and_the_others_keep_their_names(
        self, tmp_path: Path, suffix: str
    ) -> None:
        frame = pl.DataFrame({"text": ["one", None, "", "four"]})
        found = _read(_write(tmp_path / f"gaps{suffix}", frame))
        assert found == [Document("gaps/000000", "one"), Document("gaps/000003", "four")]

    def test_another_column_can_be_named(self, tmp_path: Path, suffix: str) -> None:
        file = _write(tmp_path / f"books{suffix}", pl.DataFrame({"text": ["wrong"], "body": ["right"]}))
        assert [document.text for document in _read(file, text_column="body")] == ["right"]

    def test_a_missing_column_is_refused_with_the_columns_there_are(
        self, tmp_path: Path, suffix: str
    ) -> None:
        file = _write(tmp_path / f"books{suffix}", pl.DataFrame({"number": [1], "texts": ["x"]}))
        with pytest.raises(RayfitError) as caught:
            _read(file)
        for part in (
            str(file),
            "--text-column",
            "no column 'text'",
            "number, texts",
            "did you mean 'texts'?",
        ):
            assert part in str(caught.value)

    def test_a_column_that_is_not_text_is_refused(self, tmp_path: Path, suffix: str) -> None:
        file = _write(tmp_path / f"books{suffix}", pl.DataFrame({"text": [1, 2]}))
        with pytest.raises(RayfitError, match=r"'text' of .*books\.\w+ is Int64, expected text"):
            _read(file)

    def test_a_column_that_becomes_text_late_is_text(self, tmp_path: Path, suffix: str) -> None:
        texts = [None] * 150 + ["late"] if suffix == ".jsonl" else ["1"] * 150 + ["late"]
        found = _read(_write(tmp_path / f"late{suffix}", pl.DataFrame({"text": texts})))
        assert found[-1] == Document("late/000150", "late")

    @pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00broken\xc3\x28\n", b"PAR1 cut off"])
    def test_a_file_that_cannot_be_read_is_refused_by_name(
        self, tmp_path: Path, suffix: str, content: bytes
    ) -> None:
        file = tmp_path / f"broken{suffix}"
        file.write_bytes(content)
        with pytest.raises(RayfitError) as caught:
            _read(file)
        assert str(file) in str(caught.value)


def test_a_folder_is_one_document_per_txt_file_named_by_its_place(tmp_path: Path) -> None:
    (tmp_path / "b" / "deep").mkdir(parents=True)
    (tmp_path / "b" / "deep" / "2.txt").write_text("two")
    (tmp_path / "a.txt").write_text("one\n\nstill one")
    (tmp_path / "notes.md").write_text("not read")
    (tmp_path / "folder.txt").mkdir()
    assert _read(tmp_path) == [Document("a.txt", "one\n\nstill one"), Document("b/deep/2.txt", "two")]


def test_names_do_not_depend_on_where_a_folder_lies(tmp_path: Path) -> None:
    for place in ("here", "there/deeper"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "x.txt").write_text("text")
    assert _read(tmp_path / "here") == _read(tmp_path / "there" / "deeper")


def test_a_single_txt_is_its_paragraphs_joined_to_at_least_the_span(tmp_path: Path) -> None:
    file = tmp_path / "book.txt"
    file.write_text("aaaa\n\nbbbb\n\n\n\ncccc\ncccc\n\ndd\n", encoding="utf-8")
    assert _read(file, span_characters=9) == [
        Document("book/000000", "aaaa\n\nbbbb"),
        Document("book/000001", "cccc\ncccc"),
        Document("book/000002", "dd\n"),
    ]


paragraphs = st.lists(st.text(alphabet="ab c", min_size=1, max_size=30).filter(str.strip), max_size=20)


@given(paragraphs, st.integers(1, 50))
def test_paragraphs_are_kept_whole_and_in_order(tmp_path_factory, texts: list[str], span: int) -> None:
    file = tmp_path_factory.mktemp("text") / "book.txt"
    file.write_text("\n\n".join(texts))
    found = _read(file, span_characters=span)
    assert [part for document in found for part in document.text.split("\n\n")] == texts
    assert all(len(document.text) >= span for document in found[:-1])
    # No document is longer than it has to be: without its last paragraph it would be too short.
    assert all(len(document.text.rpartition("\n\n")[0]) < span for document in found)
    assert len({document.name for document in found}) == len(found)


def test_a_byte_order_mark_and_carriage_returns_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "windows.txt").write_bytes(b"\xef\xbb\xbfone\r\n\r\ntwo two two")
    assert [document.text for document in _read(tmp_path / "windows.txt", span_characters=3)] == [
        "one",
        "two two two",
    ]


@pytest.mark.parametrize("name", ["folder", "latin.txt"])
def test_text_that_is_not_utf8_is_refused_with_the_file_and_the_byte(tmp_path: Path, name: str) -> None:
    file = tmp_path / "latin.txt" if name == "latin.txt" else tmp_path / name / "latin.txt"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes("déjà".encode("latin-1"))
    with pytest.raises(RayfitError) as caught:
        _read(tmp_path / name)
    assert f"{file} is not UTF-8 text (byte 1)" in str(caught.value)
