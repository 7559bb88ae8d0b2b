"""Many evaluations in one frame: what a score or a question of one's own starts from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from rayfit.errors import RayfitError
from rayfit.records.storage import Storage

_ABOUT = dict.fromkeys(("evaluation_id", "trial_id", "model_name", "decoding"), pl.String)
_TEXTS = dict.fromkeys(("context_id", "domain", "context", "truth", "text"), pl.String)


def generations(storage_root: str | Path) -> pl.DataFrame:
    """Every generation of every finished evaluation of a storage, one row each.

    Columns: `evaluation_id`, `trial_id` (null for the original model), `model_name`, `decoding`; then those of the
    evaluations' parquet files: `context_id`, `domain`, `context`, `truth` and `text` (strings), `token_ids` (the
    generated ids) and the text scores, null where an evaluation does not have a score. Evaluations stand in the order
    of their ids, the generations of one in the order of its contexts.

    Raises RayfitError where there is no such folder.
    """
    parts = [pl.DataFrame(schema={**_ABOUT, **_TEXTS, "token_ids": pl.List(pl.Int32)})]
    for folder, record in _evaluations(storage_root):
        labels = [pl.lit(value, dtype=pl.String).alias(name) for name, value in _about(record).items()]
        parts.append(pl.read_parquet(folder / record["generations"]).select(*labels, pl.all()))
    return pl.concat(parts, how="diagonal")


def evaluations(storage_root: str | Path) -> pl.DataFrame:
    """Every score of every finished evaluation of a storage, one row each.

    Columns: `evaluation_id`, `trial_id` (null for the original model), `model_name`, `decoding`, `domain`, `score`
    (its name), `value`, `low` and `high` (95% interval), `num_texts` (what the value is the mean of), `reason` (why a
    number is null). The true continuations have no rows. Ordered by evaluation id, then score.

    Raises RayfitError where there is no such folder.
    """
    rows = [
        {
            **_about(record),
            "domain": record["domain"],
            "score": name,
            **{key: entry[key] for key in ("value", "low", "high", "reason")},
            "num_texts": entry["count"],
        }
        for _, record in _evaluations(storage_root)
        for name, entry in sorted(record["scores"].items())
    ]
    numbers = dict.fromkeys(("value", "low", "high"), pl.Float64)
    texts = dict.fromkeys(("domain", "score"), pl.String)
    schema = {**_ABOUT, **texts, **numbers, "num_texts": pl.Int64, "reason": pl.String}
    return pl.DataFrame(rows, schema=schema)


def prediction_texts(storage: Storage, predictions_id: str) -> pl.DataFrame | None:
    """The rows that a checkpoint's predictions left, one per text (`rayfit.score.predictions.prediction_frame`), or None."""
    record = storage.read("predictions", predictions_id)
    if record is None:
        return None
    return pl.read_parquet(storage.folder("predictions", predictions_id) / record["texts"])


def generated_texts(storage: Storage, evaluation_id: str) -> pl.DataFrame | None:
    """The generations of one evaluation with their text scores, one row each, or None."""
    record = storage.read("evaluations", evaluation_id)
    if record is None:
        return None
    return pl.read_parquet(storage.folder("evaluations", evaluation_id) / record["generations"])


def _evaluations(storage_root: str | Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    storage = Storage(storage_root)
    if not storage.root.is_dir():
        raise RayfitError(f"storage: there is no folder {storage.root}; sweeps make it (default: ./runs)")
    for identifier in storage.ids("evaluations"):
        record = storage.read("evaluations", identifier)
        assert record is not None
        yield storage.folder("evaluations", identifier), record


def _about(record: dict[str, Any]) -> dict[str, str | None]:
    return {
        "evaluation_id": record["id"],
        "trial_id": record["trial_id"],
        "model_name": record["model_name"],
        "decoding": record["decoding"],
    }
