"""Datasets of the hub: the commit, and the rows at the front, streamed so that no more is downloaded than is read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

from rayfit.data.documents import Document, joined
from rayfit.errors import RayfitError, first_line, nearest
from rayfit.hub_presets import HubDataset
from rayfit.plan.hub import read_lock, write_lock
from rayfit.prepare.hub import UnreachableError, ask_hub
from rayfit.records.storage import Storage


def find_commit(source: HubDataset, storage: Storage) -> str:
    """The commit of the dataset's revision: from the lock file, else asked for now, with access, and remembered there.

    Where the hub cannot be reached, the local hub cache answers if it has the revision. Raises RayfitError saying
    what to do when the dataset does not exist, is gated, or neither can answer.
    """
    if (known := read_lock(storage).get(source.lock_key)) is not None:
        return known
    try:
        commit = ask_hub("dataset", source.hub_id, source.revision).commit
    except UnreachableError as error:
        folder = _cached_snapshot(source, source.revision)
        if folder is None:
            raise _unreachable(source, error) from error
        commit = folder.name  # the cache names a snapshot's folder by its commit
    write_lock(storage, source.lock_key, commit)
    return commit


def read_hub_documents(source: HubDataset, commit: str, pool: int, span_characters: int) -> list[Document]:
    """The first `pool` documents of the dataset at `commit`, in order; only their rows are downloaded.

    Raises RayfitError for a config, split or column that is not there, for a dataset that needs code of its own
    (which is never run), and when the hub cannot be reached.
    """
    found = (
        documents_of_rows(source, config, _rows(source, config, commit), span_characters)
        for config in source.configs
    )
    return list(islice(chain.from_iterable(found), pool))


def _rows(source: HubDataset, config: str, commit: str) -> Iterable[dict[str, Any]]:
    """All rows of a config in order, read only as far as they are asked for."""
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError
    from huggingface_hub.constants import HF_HUB_OFFLINE
    from huggingface_hub.errors import HTTPError

    place: str = source.hub_id
    revision: str | None = commit
    if HF_HUB_OFFLINE:
        folder = _cached_snapshot(source, commit)
        if folder is None:
            raise _unreachable(source, "offline mode is on (HF_HUB_OFFLINE)")
        place, revision = str(folder), None
    try:
        yield from load_dataset(
            place,
            name=config or None,
            data_files=source.data_files or None,
            split=source.split,
            revision=revision,
            streaming=True,
        )
    except RuntimeError as error:
        if "scripts are no longer supported" not in str(error):
            raise
        raise RayfitError(
            f"--dataset: {source.hub_id} needs code of its own, which is never run; download its files and give them, "
            "or another dataset"
        ) from error
    except (DatasetsError, ValueError, HTTPError, OSError) as error:
        raise RayfitError(
            f"--dataset: {source.hub_id} (config {config or 'default'}, split {source.split}) cannot be read: "
            f"{first_line(error)}"
        ) from error


def _cached_snapshot(source: HubDataset, revision: str) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = snapshot_download(
            source.hub_id, repo_type="dataset", revision=revision, local_files_only=True
        )
    except LocalEntryNotFoundError:
        return None
    return Path(folder)


def _unreachable(source: HubDataset, reason: object) -> RayfitError:
    return RayfitError(
        f"--dataset: {source.hub_id} at {source.revision} is not in the local hub cache and the hub cannot be reached "
        f"({first_line(reason)}); where there is a network, `hf download --repo-type dataset {source.hub_id}` fills "
        "the cache ($HF_HOME), which can be copied here"
    )


def _texts(source: HubDataset, rows: Iterable[dict[str, Any]]) -> Iterator[tuple[int, str]]:
    """(row number, text) of every row that has text."""
    for number, row in enumerate(rows):
        if source.column not in row:
            hint = nearest(source.column, row)
            raise RayfitError(
                f"--dataset: {source.hub_id} has no column {source.column!r}; it has {', '.join(row)}{hint}"
            )
        text = row[source.column]
        if text is not None and not isinstance(text, str):
            raise RayfitError(
                f"--dataset: the column {source.column!r} of {source.hub_id} holds {type(text).__name__}, expected text"
            )
        if text:
            yield number, text


def documents_of_rows(
    source: HubDataset, config: str, rows: Iterable[dict[str, Any]], span_characters: int
) -> Iterator[Document]:
    """The rows of a config as documents: each its own, or joined as the source says; rows without text count for nothing.

    No more rows are read than the documents that are asked for take. Raises RayfitError when the column is not there or
    holds no text.
    """
    texts = _texts(source, rows)
    stem = "/".join(part for part in (config, source.split) if part)
    if not source.joined:
        for number, text in texts:
            yield Document(f"{stem}/{number:08d}", text)
        return
    # Lines of a text file come without their ends, rows of WikiText with them.
    lines = (text.removesuffix("\n") for _, text in texts)
    groups = (
        joined(lines, "\n", span_characters)
        if not source.starts_at
        else _begun(lines, re.compile(source.starts_at))
    )
    for number, text in enumerate(groups):
        yield Document(f"{stem}/joined-{number:08d}", text)


def _begun(lines: Iterable[str], beginning: re.Pattern[str]) -> Iterator[str]:
    """Lines joined into texts, each of which begins at a line that matches."""
    held: list[str] = []
    for line in lines:
        if held and beginning.fullmatch(line):
            yield "\n".join(held)
            held = []
        held.append(line)
    if held:
        yield "\n".join(held)
