"""The record of prepared token rows: training rows, held-out rows, or prompts, under one model's tokenizer."""

from __future__ import annotations

from typing import Any

from rayfit.records.values import Value


class RowsRecord(Value, frozen=True, kw_only=True):
    """Token rows, a parquet file or several.

    `declared`: what their id is the hash of, beside the model. `bos_id`: the id that every row begins with, or null.
    `fingerprints` and `counts` (rows) by file. `near_duplicates_dropped`: held-out spans that shared too much with
    training text; null where nothing is held out.
    """

    id: str
    kind: str
    declared: dict[str, Any]
    bos_id: int | None
    fingerprints: dict[str, str]
    counts: dict[str, int]
    near_duplicates_dropped: int | None
    versions: dict[str, str]
    git_commit: str | None
