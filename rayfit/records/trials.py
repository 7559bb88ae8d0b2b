"""What is kept of a trial: attempts in folders of their own, and a record that points at what counts."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path

import msgspec
import polars as pl

from rayfit.errors import TrialError
from rayfit.records.codec import encode, read_record
from rayfit.records.states import remove_states
from rayfit.records.storage import RECORD, TRIALS, Storage, write_json
from rayfit.records.trial import Product, TrialFailure, TrialRecord

FAILURE = "failure.json"
LOGS = "logs"


def new_attempt(storage: Storage, trial_id: str, launch: str) -> Path:
    """A fresh folder of a trial for one attempt at training it, named after the launch that makes it."""
    folder = storage.folder(TRIALS, trial_id) / f"attempt-{launch}-{secrets.token_hex(3)}"
    folder.mkdir(parents=True)
    return folder


def publish_trial(
    storage: Storage, record: TrialRecord, *, attempt: Path, fresh: bool, same_bits: bool
) -> TrialRecord:
    """Make an attempt the trial's record, marker last; returns the record as published.

    The record's edition is 1. Where the trial was finished before and is
    trained again for a product it lacked, its older products stay, and what `kept` says of weights kept along the way,
    provided the weights are the same; where they are not, `same_bits` (training on CPU) raises TrialError and the old
    record stays, else the difference is noted and the new products replace the old. `fresh` replaces everything and
    raises the edition by one.
    """
    folder = storage.folder(TRIALS, record.id)
    products = record.products
    old = storage.trial(record.id)
    if old is not None and fresh:
        record = msgspec.structs.replace(record, edition=old.edition + 1)
    elif old is not None and old.weights_sha256 == record.weights_sha256:
        made = {product.name for product in products}
        record = msgspec.structs.replace(
            record,
            edition=old.edition,
            products=(*(product for product in old.products if product.name not in made), *products),
            kept={**old.kept, **record.kept},
        )
    elif old is not None and same_bits and old.placements == record.placements:
        shutil.rmtree(attempt)
        raise TrialError(
            "trained again for a product it lacked, it gave other weights than the ones recorded (library versions "
            f"then {old.versions}); the old record stays; --fresh trains it anew"
        )
    elif old is not None:
        record = msgspec.structs.replace(record, edition=old.edition, weights_differ_from=old.weights_sha256)
    storage.write(TRIALS, record.id, record)
    (folder / FAILURE).unlink(missing_ok=True)
    remove_states(storage, record.id)
    _remove_attempts(folder, record)
    return record


def _remove_attempts(folder: Path, record: TrialRecord) -> None:
    """Remove every attempt that the record does not point at: who publishes a trial alone holds it."""
    kept = {Path(product.path).parts[0] for product in record.products}
    for path in folder.glob("attempt-*"):
        if path.name not in kept:
            shutil.rmtree(path, ignore_errors=True)


def product_path(storage: Storage, record: TrialRecord, product: Product) -> Path:
    """Where a product of a finished trial lies."""
    return storage.folder(TRIALS, record.id) / product.path


def finest_curve(storage: Storage, record: TrialRecord) -> Path | None:
    """The file of a trial's training curve with the most points, of those that are still there; None for none."""
    curves = sorted((each for each in record.products if each.kind == "curve"), key=lambda each: each.name)
    paths = [path for each in curves if (path := product_path(storage, record, each)).is_file()]
    counts = {path: pl.scan_parquet(path).select(pl.len()).collect().item() for path in paths}
    return max(counts, key=lambda path: counts[path], default=None)


def write_failure(storage: Storage, failure: TrialFailure) -> None:
    """Keep why a trial failed; a finished record of the same trial stays what it is."""
    write_json(storage.folder(TRIALS, failure.id) / FAILURE, encode(failure))


def read_failure(storage: Storage, trial_id: str) -> TrialFailure | None:
    """Why the trial's last attempt failed, or None."""
    path = storage.folder(TRIALS, trial_id) / FAILURE
    return read_record(
        path, TrialFailure, mend="remove this file alone; the trial is tried again at the next launch"
    )


def current_failure(storage: Storage, trial_id: str) -> TrialFailure | None:
    """Why a trial failed, unless it was finished since."""
    failure, record = read_failure(storage, trial_id), storage.trial(trial_id)
    finished_since = failure and record and record.finished_at > failure.failed_at
    return None if finished_since else failure


def failed_ids(storage: Storage) -> list[str]:
    """Trials whose last attempt failed and that have no record."""
    return sorted(
        path.parent.name
        for path in (storage.root / TRIALS).glob(f"*/{FAILURE}")
        if not (path.parent / RECORD).exists()
    )
