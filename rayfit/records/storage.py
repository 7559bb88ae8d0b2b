"""The place where everything is kept: folders by kind and id, whose `record.json`, written last, is the marker."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from rayfit.columns import know
from rayfit.errors import RayfitError, nearest
from rayfit.records.codec import dumps, encode, read_record
from rayfit.records.measurement import MeasurementRecord
from rayfit.records.prepared import RowsRecord
from rayfit.records.sweep import SweepRecord
from rayfit.records.trial import TrialRecord
from rayfit.records.values import Value

if TYPE_CHECKING:
    import polars as pl

RECORD = "record.json"
MARK = "storage.json"
# Raised when records or ids of an earlier version can no longer be used beside new ones.
STORAGE_VERSION = 3
# What is prepared, trained and declared; every kind of measurement has a folder of its own name beside these.
PREPARED = ("models", "texts", "rows")
TRIALS = "trials"
SWEEPS = "sweeps"


class _Mark(Value, frozen=True, kw_only=True):
    """What says by which version a storage was written."""

    version: int


class Storage:
    """A local folder of records. A folder without its record is unfinished work and counts for nothing."""

    def __init__(self, root: str | Path) -> None:
        """Raises RayfitError for a URI or a file: only local (or mounted) folders are storage."""
        text = str(root)
        if "://" in text:
            scheme = text.split("://", maxsplit=1)[0]
            raise RayfitError(
                f"--storage: {text} is a {scheme} URI; object stores are not supported, "
                "give a local folder or one mounted on every node"
            )
        self.root = Path(root).expanduser().resolve()
        nearest_there = next(path for path in (self.root, *self.root.parents) if path.exists())
        if not nearest_there.is_dir():
            raise RayfitError(f"--storage: {self.root} cannot be a folder: {nearest_there} is a file")

    def check_version(self) -> None:
        """Raises RayfitError when another version of rayfit, whose records mean something else, wrote here."""
        path = self.root / MARK
        mend = f'it is to hold {{"version": N}}, N being {STORAGE_VERSION} if this rayfit wrote the records beside it'
        mark = read_record(path, _Mark, mend=mend)
        version = mark.version if mark is not None else 1 if self._has_records() else STORAGE_VERSION
        if version != STORAGE_VERSION:
            raise RayfitError(
                f"--storage: {self.root} was written by {'an earlier' if version < STORAGE_VERSION else 'a later'} rayfit "
                f"(its records are of version {version}, here they are of version {STORAGE_VERSION}); give another "
                "--storage, or go on with that rayfit"
            )

    def _has_records(self) -> bool:
        return next(self.root.glob(f"*/[!.]*/{RECORD}"), None) is not None

    def _mark(self) -> None:
        """Leave the version in a storage that has nothing yet."""
        if not (self.root / MARK).exists():
            self.check_version()
            write_json(self.root / MARK, encode(_Mark(version=STORAGE_VERSION)))

    @property
    def kinds(self) -> list[str]:
        """What kinds of records there may be: prepared ones, trials, every kind of measurement that is there, sweeps."""
        return [*PREPARED, TRIALS, *self.measured_kinds, SWEEPS]

    @property
    def measured_kinds(self) -> list[str]:
        """The kinds of measurements that are there, sorted."""
        there = {path.parent.parent.name for path in self.root.glob(f"[!.]*/[!.]*/{RECORD}")}
        return sorted(there - {*PREPARED, TRIALS, SWEEPS})

    def folder(self, kind: str, identifier: str) -> Path:
        """Where the things of one id lie; not created."""
        return self.root / kind / identifier

    def rows(self, identifier: str) -> RowsRecord | None:
        """The record of token rows, or None while they are not made. Raises RayfitError as `read_record`."""
        return read_record(self.folder("rows", identifier) / RECORD, RowsRecord)

    def trial(self, identifier: str | None) -> TrialRecord | None:
        """The record of a trial, or None while it is unfinished or unknown. Raises RayfitError as `read_record`."""
        return (
            None if identifier is None else read_record(self.folder(TRIALS, identifier) / RECORD, TrialRecord)
        )

    def measurement(self, kind: str, identifier: str | None) -> MeasurementRecord | None:
        """The record of a measurement, or None while it is unfinished or unknown. Raises RayfitError as `read_record`."""
        return (
            None
            if identifier is None
            else read_record(self.folder(kind, identifier) / RECORD, MeasurementRecord)
        )

    def sweep(self, identifier: str) -> SweepRecord | None:
        """The record of a sweep, or None where there is none. Raises RayfitError as `read_record`."""
        record = read_record(self.folder(SWEEPS, identifier) / RECORD, SweepRecord)
        if record is not None:
            # The process that reads it may never have seen the script that brought them.
            know(record.own_scores)
        return record

    def read(self, kind: str, identifier: str) -> dict[str, Any] | None:
        """The record of an id as it stands in its file, or None while it is unfinished or unknown.

        Raises RayfitError as `read_record`.
        """
        return read_record(self.folder(kind, identifier) / RECORD, dict[str, Any])

    def write(self, kind: str, identifier: str, record: msgspec.Struct | dict[str, Any]) -> None:
        """Publish a record: from now on its id is finished. Raises RayfitError as `check_version`."""
        self._mark()
        plain = record if isinstance(record, dict) else encode(record)
        write_json(self.folder(kind, identifier) / RECORD, plain)

    def ids(self, kind: str) -> list[str]:
        """All ids of a kind that have a record, sorted. Folders still under their temporary name are none."""
        return sorted(path.parent.name for path in (self.root / kind).glob(f"[!.]*/{RECORD}"))

    def find(self, text: str) -> list[tuple[str, str]]:
        """(kind, id) of every record whose id is `text`, else of those whose id begins or ends with it."""
        everything = [(kind, identifier) for kind in self.kinds for identifier in self.ids(kind)]
        exact = [entry for entry in everything if entry[1] == text]
        return exact or [
            entry for entry in everything if entry[1].startswith(text) or entry[1].endswith(text)
        ]

    def nearest_id(self, text: str) -> str:
        """A hint for a mistyped id, or an empty string."""
        return nearest(text, [identifier for kind in self.kinds for identifier in self.ids(kind)])

    def make_folder(
        self, kind: str, identifier: str, fill: Callable[[Path], dict[str, Any]]
    ) -> dict[str, Any]:
        """Fill a new folder under a temporary name, then move it into place, its record within it: all or nothing.

        `fill` writes files into the folder it is given and returns the record. If another process published the same
        id meanwhile, that one stays and its record is returned.
        """
        self._mark()
        final = self.folder(kind, identifier)
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary = final.parent / f".{identifier}.{secrets.token_hex(4)}.tmp"
        temporary.mkdir()
        try:
            write_json(temporary / RECORD, fill(temporary))
            if final.exists() and self.read(kind, identifier) is None:
                shutil.rmtree(final)
            os.replace(temporary, final)
        except OSError:
            if self.read(kind, identifier) is None:
                raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        record = self.read(kind, identifier)
        assert record is not None
        return record


def read_json(path: Path) -> Any:
    """The content of a JSON file, or None where there is none. Raises ValueError for what is no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def write_json(path: Path, content: Any) -> None:
    """Write JSON so that a reader, or a crash at any moment, sees the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = dumps(content)
    _replace(path, lambda temporary: temporary.write_text(text + "\n", encoding="utf-8"))


def write_parquet(path: Path, frame: pl.DataFrame) -> None:
    """Write a parquet file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _replace(path, frame.write_parquet)


def write_csv(path: Path, frame: pl.DataFrame) -> None:
    """Write a CSV file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _replace(path, frame.write_csv)


def write_text(path: Path, text: str) -> None:
    """Write a text file, UTF-8, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _replace(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}.tmp"
    try:
        write(temporary)
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
