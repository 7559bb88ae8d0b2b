from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from rayfit.data.spans import spans_fingerprint
from rayfit.plan.sources import ModelSource, TextSource, resolve_text
from rayfit.prepare.corpora import identify_text, read_spans
from rayfit.records.storage import Storage


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "runs")


def _resolved(name: object, storage: Storage) -> TextSource:
    model = ModelSource(name="x", kind="local", declared=None)
    return resolve_text(str(name), "text", 10, model, storage)


def test_a_local_text_is_identified_by_its_content_and_read(storage: Storage, tmp_path: Path) -> None:
    rows = [f"{number} " * 40 for number in range(50)]
    pl.DataFrame({"body": rows}).write_csv(tmp_path / "table.csv")
    name = f"{tmp_path / 'table.csv'}:body"
    assert _resolved(name, storage).declared is None
    identify_text(_resolved(name, storage), storage)
    text = _resolved(name, storage)
    assert text.declared is not None and text.declared["text_column"] == "body"
    spans, facts = read_spans(text, storage, span_characters=60, held_out_share=0.3)
    assert (facts["documents"], facts["characters"]) == (50, sum(map(len, rows)))
    counted = dict(spans["split"].value_counts().iter_rows())
    assert facts["spans"] == {"near_duplicate": 0, **counted}
    assert facts["fingerprint"] == spans_fingerprint(spans)


def test_the_embedded_corpus_needs_no_identifying(storage: Storage) -> None:
    text = _resolved("pydoc", storage)
    identify_text(text, storage)
    assert not storage.root.exists()
    spans, facts = read_spans(text, storage, span_characters=1000, held_out_share=0.2)
    assert facts["spans"]["train"] == spans.filter(pl.col("split") == "train").height > 1000
