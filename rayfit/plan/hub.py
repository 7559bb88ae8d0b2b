"""Names of things on the Hugging Face hub, and the file that remembers their commits."""

from __future__ import annotations

import json
import re

import filelock

from rayfit.errors import RayfitError
from rayfit.hub_presets import HubDataset
from rayfit.records.storage import Storage, read_json, write_json

HUB_LOCK = "hub.lock.json"

_LOOKS_LIKE_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+", re.ASCII)
_HUB_ID = re.compile(r"\b[\w.-]+\b/\b[\w.-]{1,96}\b", re.ASCII)  # the hub client's own rule
_DATASET_FORM = "OWNER/NAME[@REVISION][:CONFIG[:SPLIT[:COLUMN]]]"


def check_hub_id(where: str, name: str) -> bool:
    """True when `name` is a hub id; raises RayfitError when it looks like one and the hub would not take it."""
    if not _LOOKS_LIKE_ID.fullmatch(name):
        return False
    if not _HUB_ID.fullmatch(name) or ".." in name or "--" in name or name.endswith(".git"):
        raise RayfitError(
            f"{where}: {name!r} is no hub id: expected OWNER/NAME of letters, digits, '-', '_' and '.', no '--' or "
            "'..', no '-' or '.' at an end of either, no '.git', a name of at most 96 characters"
        )
    return True


def parse_hub_dataset(name: str, default_column: str) -> HubDataset | None:
    """`owner/name@revision:config:split:column`, of which the id is needed; None when `name` is no such thing.

    An empty part is the default: no config, split train, `default_column`. Raises RayfitError for too many parts or
    an id that the hub would not take.
    """
    identifier, *parts = name.split(":")
    hub_id, _, revision = identifier.partition("@")
    if not check_hub_id("--dataset", hub_id):
        return None
    if len(parts) > 3:
        raise RayfitError(f"--dataset: expected {_DATASET_FORM}; got {name!r}")
    config, split, column = [*parts, "", "", ""][:3]
    return HubDataset(
        hub_id=hub_id,
        config=config,
        split=split or "train",
        column=column or default_column,
        revision=revision or "main",
    )


def read_lock(storage: Storage) -> dict[str, str]:
    """Commits by `id@revision` (datasets: `datasets/id@revision`); raises RayfitError when the file is broken."""
    path = storage.root / HUB_LOCK
    try:
        lock = read_json(path)
    except ValueError as error:
        lock = str(error)
    if lock is None:
        return {}
    if not isinstance(lock, dict) or not all(isinstance(commit, str) for commit in lock.values()):
        detail = lock if isinstance(lock, str) else f"got {json.dumps(lock)[:60]}"
        raise RayfitError(
            f"{path}: expected a JSON object of commits by hub id; {detail}; mend it, or remove it and commits are "
            "asked for again (results of other commits then have other ids)"
        )
    return lock


def write_lock(storage: Storage, key: str, commit: str) -> None:
    """Remember a commit, beside those already remembered, by other processes too."""
    storage.root.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(storage.root / f".{HUB_LOCK}.lock"):
        lock = read_lock(storage)
        if lock.get(key) != commit:
            write_json(storage.root / HUB_LOCK, {**lock, key: commit})
