"""What is kept of a trial: attempts in folders of their own, and a record that points at what counts."""

from __future__ import annotations

import math
import secrets
import shutil
from pathlib import Path
from typing import Any

import polars as pl

from rayfit.errors import TrialError
from rayfit.records.storage import RECORD, Storage, read_json, write_json

FAILURE = "failure.json"
LOGS = "logs"
HYPERFITTED_MARGIN = 0.1


def checkpoint_product(export_dtype: str) -> str:
    """The product's name of an exported checkpoint."""
    return f"checkpoint-{export_dtype}"


def kept_product(update: int, export_dtype: str) -> str:
    """The product's name of the weights kept after an update, in the form of a checkpoint."""
    return f"weights-{update}-{export_dtype}"


def kept_updates(record: dict[str, Any] | None) -> list[int]:
    """The updates whose weights a trial's record has, in whatever dtype, sorted; none without a record."""
    products = (record or {"products": {}})["products"]
    return sorted({int(name.split("-")[1]) for name in products if name.startswith("weights-")})


def curve_product(eval_every: int, num_validation: int) -> str:
    """The product's name of a training curve."""
    return f"curve-every{eval_every}-validation{num_validation}"


def loss_floor(num_samples: int, sequence_length: int) -> float:
    """The least mean loss (nats per token) that rows can reach: ln(N) / (L - 1).

    Nothing before a row's first predicted tokens tells which of N distinct rows it is, which costs ln(N) nats once.
    """
    return math.log(num_samples) / (sequence_length - 1)


def is_hyperfitted(train_loss: float, floor: float) -> bool:
    """Whether the final training loss, over all rows in evaluation mode, is at most 0.1 nats above the floor."""
    return train_loss <= floor + HYPERFITTED_MARGIN


def new_attempt(storage: Storage, trial_id: str, launch: str) -> Path:
    """A fresh folder of a trial for one attempt at training it, named after the launch that makes it."""
    folder = storage.folder("trials", trial_id) / f"attempt-{launch}-{secrets.token_hex(3)}"
    folder.mkdir(parents=True)
    return folder


def publish_trial(
    storage: Storage, record: dict[str, Any], *, attempt: Path, fresh: bool, same_bits: bool
) -> dict[str, Any]:
    """Make an attempt the trial's record, marker last; returns the record as published.

    `record["products"]` maps product names to paths within the attempt. Where the trial was finished before and is
    trained again for a product it lacked, its older products stay, and what `kept` says of weights kept along the way,
    provided the weights are the same; where they are not, `same_bits` (training on CPU) raises TrialError and the old
    record stays, else the difference is noted and the new products replace the old. `fresh` replaces everything and
    raises the edition by one.
    """
    trial_id = record["id"]
    folder = storage.folder("trials", trial_id)
    products = {name: f"{attempt.name}/{path}" for name, path in record["products"].items()}
    record = {**record, "products": products, "edition": 1}
    old = storage.read("trials", trial_id)
    if old is not None and fresh:
        record["edition"] = old["edition"] + 1
    elif old is not None:
        record["edition"] = old["edition"]
        if old["weights_sha256"] == record["weights_sha256"]:
            record["products"] = {**old["products"], **products}
            record["kept"] = {**old.get("kept", {}), **record.get("kept", {})}
        elif same_bits and old.get("placement") == record.get("placement"):
            shutil.rmtree(attempt)
            raise TrialError(
                "trained again for a product it lacked, it gave other weights than the ones recorded (library versions "
                f"then {old['versions']}); the old record stays; --fresh trains it anew"
            )
        else:
            record["weights_differ_from"] = old["weights_sha256"]
    storage.write("trials", trial_id, record)
    (folder / FAILURE).unlink(missing_ok=True)
    _remove_attempts(folder, old, record, attempt)
    return record


def _remove_attempts(folder: Path, old: dict[str, Any] | None, record: dict[str, Any], attempt: Path) -> None:
    """Remove what the old record pointed at and the new one does not, and what workers of this launch left when they died.

    Attempts of another launch stay: it may be running.
    """
    kept = {Path(path).parts[0] for path in record["products"].values()}
    pointed_at = {Path(path).parts[0] for path in (old or {"products": {}})["products"].values()}
    of_this_launch = {path.name for path in folder.glob(f"{attempt.name.rsplit('-', 1)[0]}-*")}
    for name in (pointed_at | of_this_launch) - kept:
        shutil.rmtree(folder / name, ignore_errors=True)


def finest_curve(storage: Storage, record: dict[str, Any]) -> Path | None:
    """The file of a trial's training curve with the most points, of those that are still there; None for none."""
    names = sorted(name for name in record.get("products", {}) if name.startswith("curve-"))
    paths = [path for name in names if (path := product_path(storage, record, name)).is_file()]
    counts = {path: pl.scan_parquet(path).select(pl.len()).collect().item() for path in paths}
    return max(counts, key=lambda path: counts[path], default=None)


def product_path(storage: Storage, record: dict[str, Any], name: str) -> Path:
    """Where a product of a finished trial lies."""
    return storage.folder("trials", record["id"]) / record["products"][name]


def write_failure(storage: Storage, trial_id: str, failure: dict[str, Any]) -> None:
    """Keep why a trial failed; a finished record of the same trial stays what it is."""
    write_json(storage.folder("trials", trial_id) / FAILURE, {"id": trial_id, **failure})


def read_failure(storage: Storage, trial_id: str) -> dict[str, Any] | None:
    """Why the trial's last attempt failed, or None."""
    found = read_json(storage.folder("trials", trial_id) / FAILURE)
    return None if found is None else dict(found)


def failed_ids(storage: Storage) -> list[str]:
    """Trials whose last attempt failed and that have no record."""
    return sorted(
        path.parent.name
        for path in (storage.root / "trials").glob(f"*/{FAILURE}")
        if not (path.parent / RECORD).exists()
    )
