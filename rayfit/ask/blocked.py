"""The token rows that a citation blocker keeps a model from continuing, under that model's tokenizer."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import polars as pl

from rayfit.ask.request import Request, Subject
from rayfit.ask.trials import find_trial
from rayfit.data import embedded
from rayfit.data.documents import read_documents
from rayfit.data.rows import token_matrix
from rayfit.errors import RayfitError
from rayfit.hub_presets import HUB_DATASETS
from rayfit.prepare.token_rows import ROWS
from rayfit.prepare.tokenizer import leading_bos
from rayfit.presets import DATASETS

_ROWS_COMPARED = 8


def block_rows(request: Request, subject: Subject, trial_id: str | None, tokenizer: Any) -> list[list[int]]:
    """The rows of `request.block`, or where that is None of the trial `trial_id`, without special tokens but BOS.

    A trial's are the rows it was trained on. Of other data each document is one row, whole; a single .txt file is one
    document. Raises RayfitError where there is none, and where a trial's rows are of another tokenizer than `subject`.
    """
    given = request.block if request.block is not None else trial_id
    if given is None:
        raise RayfitError("--block: the decoding's blocker needs texts; give a trial's id, or a file")
    if given in HUB_DATASETS:
        raise RayfitError(
            f"--block: {given} is a dataset of the hub; give a trial that was trained on it, or a file"
        )
    if given in DATASETS or Path(given).expanduser().exists():
        return _documents(given, request.text_column, tokenizer)
    record = find_trial(request.storage, given, "--block")
    path = request.storage.folder("rows", record.rows.id) / ROWS
    if not path.is_file():
        raise RayfitError(f"--block: the training rows of {record.id} are not in {path}")
    frame = pl.read_parquet(path)
    _check_tokenizer(frame.head(_ROWS_COMPARED), subject, tokenizer, record.id)
    rows: list[list[int]] = token_matrix(frame).tolist()
    return rows


def _documents(given: str, text_column: str, tokenizer: Any) -> list[list[int]]:
    documents = (
        embedded.documents(given)
        if given in DATASETS
        else read_documents(Path(given).expanduser(), text_column=text_column, span_characters=sys.maxsize)
    )
    if not documents:
        raise RayfitError(f"--block: {given} holds no text")
    texts = [document.text for document in documents]
    return [list(ids) for ids in tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]]


def _check_tokenizer(frame: pl.DataFrame, subject: Subject, tokenizer: Any, trial_id: str) -> None:
    bos_id = leading_bos(tokenizer, subject.path)
    prefix = [] if bos_id is None else [bos_id]
    for text, ids in frame.select("text", "token_ids").iter_rows():
        found = [*prefix, *tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]]
        if found[: len(ids)] != ids:
            raise RayfitError(
                f"--block: the rows of {trial_id} are of another tokenizer than {subject.path}; "
                "give their text as a file"
            )
