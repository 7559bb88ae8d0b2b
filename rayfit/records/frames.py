"""Texts and scores of many measurements in one frame: what a score or a question of one's own starts from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from rayfit.columns import TRUTH
from rayfit.errors import RayfitError
from rayfit.records.measurement import MeasurementRecord
from rayfit.records.storage import Storage

GENERATIONS = "generations"
SCORES = "scores"
PREDICTIONS = "predictions"
OF = "generation_id"
"""Where scores say which generation they are of."""

_ABOUT = dict.fromkeys(("kind", "id", "who", "trial_id", "model_name", "decoding", "domain"), pl.String)
_TEXTS = dict.fromkeys(("context_id", "context", "truth", "text"), pl.String)
_IDS = dict.fromkeys(("context_ids", "truth_ids", "token_ids"), pl.List(pl.Int32))


def generations(storage_root: str | Path) -> pl.DataFrame:
    """Every generated text of a storage with its scores, one row each.

    Columns: `generation_id`, `trial_id` (null for the original model), `model_name`, `update` (null for final weights),
    `decoding`; then those of the generations' files: `context_id`, `domain`, `context`, `truth` and `text` (strings),
    `context_ids`, `truth_ids` and `token_ids` (the generated ids); and the text scores, null where a generation was not
    scored. Generations stand in the order of their ids, the texts of one in the order of its contexts.

    Raises RayfitError where there is no such folder.
    """
    storage = _opened(storage_root)
    schema = {"generation_id": pl.String, "trial_id": pl.String, "model_name": pl.String, "update": pl.Int64}
    parts = [pl.DataFrame(schema={**schema, "decoding": pl.String, **_TEXTS, "domain": pl.String, **_IDS})]
    # Scores of earlier versions stay where they are; the newest of the latest version counts.
    of_texts = (record for record in _records(storage, SCORES) if record.who != TRUTH)
    in_order = sorted(of_texts, key=lambda record: (record.version, record.finished_at))
    scored = {record.about[OF]: record for record in in_order}
    for record in _records(storage, GENERATIONS):
        frame = _frame(storage, record, "texts")
        if record.id in scored:
            frame = _with_scores(frame, storage, scored[record.id])
        about = (record.id, record.trial_id, record.model, record.update, record.decoding)
        labels = [
            pl.lit(value, dtype=parts[0].schema[name]).alias(name)
            for name, value in zip((*schema, "decoding"), about, strict=True)
        ]
        parts.append(frame.select(*labels, pl.all()))
    return pl.concat(parts, how="diagonal")


def scores(storage_root: str | Path) -> pl.DataFrame:
    """Every score of every finished measurement of a storage, one row each.

    Columns: `kind`, `id` and `version` of the measurement (scores of earlier versions stay beside newer ones), `who`
    (truth, original or trained), `trial_id`, `model_name`, `update` (null for final weights), `decoding` (null where no
    decoding changes the numbers), `domain`, `score` (its name), `value`, `low` and `high` (95% interval), `num_texts` (what
    the value is the mean of), `reason` (why a number is null). Ordered by kind, id, then score.

    Raises RayfitError where there is no such folder.
    """
    storage = _opened(storage_root)
    rows = [
        {
            "kind": record.kind,
            "id": record.id,
            "version": record.version,
            "who": record.who,
            "trial_id": record.trial_id,
            "model_name": record.model,
            "decoding": record.decoding,
            "domain": record.domain,
            "update": record.update,
            "score": name,
            "value": entry.value,
            "low": entry.low,
            "high": entry.high,
            "num_texts": entry.count,
            "reason": entry.reason,
        }
        for kind in storage.measured_kinds
        for record in _records(storage, kind)
        for name, entry in sorted(record.scores.items())
    ]
    numbers = dict.fromkeys(("value", "low", "high"), pl.Float64)
    schema = {
        **_ABOUT,
        "version": pl.Int64,
        "update": pl.Int64,
        "score": pl.String,
        **numbers,
        "num_texts": pl.Int64,
    }
    return pl.DataFrame(rows, schema={**schema, "reason": pl.String})


def prediction_texts(storage: Storage, predictions_id: str | None) -> pl.DataFrame | None:
    """The rows that a checkpoint's predictions left, one per text (`rayfit.score.predictions.prediction_frame`), or None."""
    record = storage.measurement(PREDICTIONS, predictions_id)
    return None if record is None else _frame(storage, record, "texts")


def scored_texts(storage: Storage, scores_id: str | None) -> pl.DataFrame | None:
    """The texts of one generation with their scores, one row each, or None where they are not scored."""
    record = storage.measurement(SCORES, scores_id)
    if record is None:
        return None
    generation = storage.measurement(GENERATIONS, str(record.about[OF]))
    if generation is None:
        return None
    return _with_scores(_frame(storage, generation, "texts"), storage, record)


def _with_scores(texts: pl.DataFrame, storage: Storage, record: MeasurementRecord) -> pl.DataFrame:
    found = _frame(storage, record, "scores")
    assert texts["context_id"].equals(found["context_id"])
    return texts.hstack(found.drop("context_id"))


def _frame(storage: Storage, record: MeasurementRecord, name: str) -> pl.DataFrame:
    return pl.read_parquet(storage.folder(record.kind, record.id) / record.files[name])


def _opened(storage_root: str | Path) -> Storage:
    storage = Storage(storage_root)
    if not storage.root.is_dir():
        raise RayfitError(f"storage: there is no folder {storage.root}; sweeps make it (default: ./runs)")
    storage.check_version()
    return storage


def _records(storage: Storage, kind: str) -> Iterator[MeasurementRecord]:
    for identifier in storage.ids(kind):
        record = storage.measurement(kind, identifier)
        assert record is not None
        yield record
