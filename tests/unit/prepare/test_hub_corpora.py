from __future__ import annotations

from itertools import islice
from typing import Any

import pytest

from rayfit.data.documents import Document
from rayfit.errors import RayfitError
from rayfit.hub_presets import HUB_DATASETS, HubDataset
from rayfit.prepare.hub_corpora import documents_of_rows


def _rows(*texts: Any) -> list[dict[str, Any]]:
    return [{"text": text, "other": 1} for text in texts]


def _documents(source: HubDataset, rows: list[dict[str, Any]], span_characters: int = 100) -> list[Document]:
    return list(documents_of_rows(source, source.config, rows, span_characters))


def test_a_row_is_a_document_named_by_its_place() -> None:
    source = HubDataset(hub_id="a/b", config="c")
    assert _documents(source, _rows("one", "", None, "four")) == [
        Document("c/train/00000000", "one"),
        Document("c/train/00000003", "four"),
    ]


def test_lines_are_joined_until_a_span_is_full() -> None:
    source = HubDataset(hub_id="a/b", joined=True)
    found = _documents(source, _rows("abc", "", "def", "ghij\n", "k"), 6)
    assert [document.text for document in found] == ["abc\ndef", "ghij\nk"]
    assert [document.name for document in found] == ["train/joined-00000000", "train/joined-00000001"]


def test_wikitext_is_cut_at_its_articles_titles() -> None:
    rows = _rows(
        "",
        " = Bird = \n",
        " It flies . \n",
        " = = Wings = = \n",
        " Two . \n",
        "",
        " = Fish = \n",
        " It swims . \n",
    )
    found = _documents(HUB_DATASETS["wikipedia"].source, rows, 1500)
    assert [document.text for document in found] == [
        " = Bird = \n It flies . \n = = Wings = = \n Two . ",
        " = Fish = \n It swims . ",
    ]


def test_a_column_that_is_not_there_or_holds_no_text_is_refused() -> None:
    with pytest.raises(RayfitError, match=r"no column 'txet'; it has text, other; did you mean 'text'\?"):
        _documents(HubDataset(hub_id="a/b", column="txet"), _rows("one"))
    with pytest.raises(RayfitError, match="'other' of a/b holds int, expected text"):
        _documents(HubDataset(hub_id="a/b", column="other"), _rows("one"))


def test_no_more_rows_are_read_than_the_documents_take() -> None:
    rows = iter(_rows("abc", "def", "ghi", "jkl", "mno", "pqr"))
    source = HubDataset(hub_id="a/b", joined=True)
    found = islice(documents_of_rows(source, source.config, rows, 6), 2)
    assert [document.text for document in found] == ["abc\ndef", "ghi\njkl"]
    assert next(rows)["text"] == "mno"
