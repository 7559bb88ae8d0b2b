from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayfit.data.rows import rows_fingerprint, token_matrix, tokenize_spans
from rayfit.errors import RayfitError

BOS = 1


def _spans(*texts: str) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "position": list(range(len(texts))),
            "document": [f"document-{number}" for number in range(len(texts))],
            "start": [100 * number for number in range(len(texts))],
            "end": [100 * number + len(text) for number, text in enumerate(texts)],
            "text": list(texts),
        }
    )


def _letters(text: str) -> list[int]:
    return [ord(letter) for letter in text]


def _rows(*texts: str, bos_id: int | None = BOS, sequence_length: int = 5) -> pl.DataFrame:
    return tokenize_spans(
        _spans(*texts), _letters, bos_id=bos_id, sequence_length=sequence_length, tokenizer_name="tiny-model"
    )


@given(st.lists(st.text(alphabet="abcé", min_size=5, max_size=20), min_size=1, max_size=5))
def test_a_row_is_bos_and_the_first_tokens_of_its_span(texts: list[str]) -> None:
    with_bos, without = _rows(*texts), _rows(*texts, bos_id=None)
    assert token_matrix(with_bos).tolist() == [[BOS, *map(ord, text[:4])] for text in texts]
    assert token_matrix(without).tolist() == [[*map(ord, text[:5])] for text in texts]
    assert with_bos.schema["token_ids"] == pl.List(pl.Int32)
    assert with_bos.drop("token_ids").equals(_spans(*texts))


def test_bos_is_counted_so_one_token_less_of_text_is_enough() -> None:
    assert token_matrix(_rows("abcd")).shape == (1, 5)
    with pytest.raises(RayfitError, match="gives 4 tokens"):
        _rows("abcd", bos_id=None)


def test_a_bos_of_id_0_is_a_bos() -> None:
    assert token_matrix(_rows("abcd", bos_id=0)).tolist() == [[0, 97, 98, 99, 100]]


def test_a_span_with_too_few_tokens_is_refused_with_its_place_tokenizer_and_setting() -> None:
    with pytest.raises(RayfitError) as caught:
        _rows("abcdefgh", "abc", "ab", sequence_length=6)
    message = str(caught.value)
    assert "document-1[100:103]" in message
    assert "4 tokens under the tokenizer of tiny-model, fewer than the 6 of a row" in message
    # 3 characters gave 4 tokens, so 6 tokens take about 4.5
    assert "raise --span-characters (now 3) to about 5" in message


def _changed(column: str, value: object) -> pl.DataFrame:
    rows = _rows("abcdef", "ghijkl")
    values = rows[column].to_list()
    return rows.with_columns(pl.Series(column, [value, *values[1:]], dtype=rows.schema[column]))


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("document", "document-9"),
        ("start", 1),
        ("end", 7),
        ("text", "abcdeg"),
        ("token_ids", [BOS, 97, 98, 99, 101]),
    ],
)
def test_the_fingerprint_changes_with_any_place_text_or_token(column: str, value: object) -> None:
    assert rows_fingerprint(_changed(column, value)) != rows_fingerprint(_rows("abcdef", "ghijkl"))


def test_the_fingerprint_changes_with_the_order_and_the_number_of_rows() -> None:
    rows = _rows("abcdef", "ghijkl", "mnopqr")
    prints = {rows_fingerprint(frame) for frame in (rows, rows.reverse(), rows.head(2), rows.tail(2))}
    assert len(prints) == 4


def test_the_fingerprint_is_of_content_not_of_how_it_is_stored(tmp_path) -> None:
    rows = _rows("abcdef", "ghijkl")
    rows.write_parquet(tmp_path / "rows.parquet")
    assert rows_fingerprint(pl.read_parquet(tmp_path / "rows.parquet")) == rows_fingerprint(rows)
    wide = rows.with_columns(pl.col("token_ids").cast(pl.List(pl.Int64)))
    assert rows_fingerprint(wide) == rows_fingerprint(rows)
