from __future__ import annotations

import polars as pl
import pytest

from rayfit.data import pydoc
from rayfit.data.documents import Document
from rayfit.data.selection import draw_held_out, draw_samples
from rayfit.data.spans import cut_spans
from rayfit.presets import DATASETS


@pytest.fixture(scope="module")
def corpus() -> list[Document]:
    return pydoc.documents()


def test_the_corpus_is_python_s_documentation_in_a_fixed_order(corpus: list[Document]) -> None:
    names = [document.name for document in corpus]
    texts = {document.name: document.text for document in corpus}
    assert names == sorted(set(names))
    assert "*****" in texts["topics/assert"]
    assert "JSON (JavaScript Object Notation)" in texts["docstrings/json/__init__.py"]
    assert "Deserialize" in texts["docstrings/json/__init__.py"]  # of functions too
    assert not [name for name in names if "site-packages" in name or "/test/" in name or "idlelib" in name]
    # 583 documents and 2.1 million characters in the Python this was written with
    assert 400 < len(corpus) < 800
    assert 1.6e6 < sum(len(text) for text in texts.values()) < 2.8e6
    assert min(len(text) for name, text in texts.items() if name.startswith("docstrings/")) >= 100


def test_the_corpus_is_enough_for_the_largest_embedded_grid(corpus: list[Document]) -> None:
    preset = DATASETS["pydoc"]
    spans = cut_spans(corpus, span_characters=preset.span_characters, held_out_share=preset.held_out_share)
    assert draw_samples(spans, 1024, 0).height == 1024
    contexts, validation = draw_held_out(spans, num_contexts=100, num_validation=64)
    assert (len(contexts), len(validation)) == (100, 64)
    # Docstrings are copied between modules, so that some held-out spans stand in training text.
    assert 0 < spans.filter(pl.col("split") == "near_duplicate").height < 100
