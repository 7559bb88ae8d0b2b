"""Getting the text of a sweep: from what is installed with Python, from local files, or from the hub."""

from __future__ import annotations

from importlib import metadata
from typing import Any

import polars as pl

from rayfit.data import embedded
from rayfit.data.documents import Document, read_documents
from rayfit.data.spans import cut_spans, spans_fingerprint
from rayfit.plan.hub import read_lock
from rayfit.plan.sources import TextSource, known_files
from rayfit.prepare.hub_corpora import find_commit, read_hub_documents
from rayfit.records.storage import Storage
from rayfit.text_files import local_files


def identify_text(text: TextSource, storage: Storage) -> None:
    """Find out what the text's identity lacks, so that it is declared when resolved again: hashes, or a commit.

    Raises RayfitError when the hub does not have the dataset, does not grant access to it, or cannot be reached.
    """
    if text.kind == "local":
        assert text.path is not None
        known_files(storage).hash(local_files(text.path))
    elif text.kind == "hub" and text.declared is None:
        assert text.hub is not None
        find_commit(text.hub, storage)


def read_spans(
    text: TextSource, storage: Storage, *, span_characters: int, held_out_share: float
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """(the cut and split text as `cut_spans` gives it, facts for its record) of a text whose identity is known.

    Facts: `documents`, `characters`, `spans` by split, and `fingerprint`, a hash over the spans; of a hub dataset
    also `pool`, how many rows were read at most, and the version of the library that read them. Raises RayfitError
    when the text cannot be read.
    """
    documents, other = _documents(text, storage, span_characters, held_out_share)
    spans = cut_spans(
        documents,
        span_characters=span_characters,
        held_out_share=held_out_share,
        other_training_texts=other,
    )
    splits = ("train", "held_out", "near_duplicate")
    facts = {
        "documents": len(documents),
        "characters": sum(len(document.text) for document in documents),
        "spans": {split: spans.filter(pl.col("split") == split).height for split in splits},
        "fingerprint": spans_fingerprint(spans),
    }
    if text.hub is not None:
        facts |= {"pool": text.pool, "datasets_version": metadata.version("datasets")}
    return spans, facts


def _documents(
    text: TextSource, storage: Storage, span_characters: int, held_out_share: float
) -> tuple[list[Document], list[str]]:
    """The documents, and the texts beside their own training documents that held-out spans must not repeat."""
    if text.kind == "pydoc":
        # The whole corpus needs no others: its own training documents are what pretraining saw.
        others = [] if text.domain == "pydoc" else embedded.training_texts_of_all(held_out_share)
        return embedded.documents(text.domain), others
    if text.kind == "hub":
        assert text.hub is not None
        commit = read_lock(storage)[text.hub.lock_key]
        return read_hub_documents(text.hub, commit, text.pool, span_characters), []
    assert text.path is not None
    return read_documents(text.path, text_column=text.text_column, span_characters=span_characters), []
