"""The child run of a model before any training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rayfit.columns import ORIGINAL
from rayfit.track.content import Content, as_number, as_params, as_tags, milliseconds
from rayfit.track.measured import (
    Measurement,
    all_points,
    is_complete,
    last_finished,
    named_files,
    of_original,
)
from rayfit.track.origin import made_by, status_of, sweep_times
from rayfit.track.summary import failure_in, failure_of, row_points, rows_of_original


def original_models(sweep: Mapping[str, Any]) -> list[str | None]:
    """The models that the sweep evaluates before any training; [None] where its record names no models."""
    entries = sweep.get("evaluations", [])
    return list(dict.fromkeys(entry.get("model") for entry in entries if entry["who"] == ORIGINAL))


def original_content(
    sweep: Mapping[str, Any], measurements: Sequence[Measurement], model: str | None, *, finished: bool
) -> Content | None:
    """The run of a model before any training, at step 0; None while nothing of it is evaluated."""
    own = of_original(measurements, model)
    rows = rows_of_original(sweep, model)
    records = [entry.record for entry in own if entry.record]
    error = sweep.get("failed", {}).get(ORIGINAL) or failure_in(rows) or failure_of(sweep, own)
    if not records and error is None:
        return None
    first = records[0] if records else {}
    name = str(model or first.get("model_name") or sweep.get("options", {}).get("model", "model"))
    status = status_of(is_complete(own), error, finished)
    ended = last_finished(own) or milliseconds(sweep_times(sweep)[0]) or 0
    took = sum(as_number(record.get("seconds", {}).get("total")) or 0.0 for record in records)
    known = row_points(sweep, rows, own, ended, 0) | all_points(own, 0)
    tags = {
        "rayfit.who": ORIGINAL,
        "rayfit.base_weights_sha256": first.get("checkpoint_weights_sha256"),
        "error": error if status == "FAILED" else None,
        **made_by(first),
    }
    return Content(
        name=f"{name} {ORIGINAL}",
        status=status,
        started=ended - round(took * 1000),
        ended=ended if status != "RUNNING" else None,
        identity={
            "rayfit.original": "true",
            "rayfit.model": name,
            "rayfit.edition": str(max((record.get("edition", 1) for record in records), default=1)),
        },
        tags=as_tags(tags),
        params=as_params({"model": name, **measured_by(own)}),
        scores=tuple(known.values()),
        files=named_files(own),
    )


def measured_by(own: Sequence[Measurement]) -> dict[str, Any]:
    """How a run was evaluated, where all of it was evaluated alike."""
    records = [entry.record for entry in own if entry.record and "evaluation_id" in entry.entry]
    values = {name: {record.get(name) for record in records} for name in ("eval_precision", "num_new_tokens")}
    return {name: next(iter(found)) for name, found in values.items() if len(found) == 1}
