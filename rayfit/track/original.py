"""The child run of the model before any training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rayfit.track.content import Content, as_number, as_params, as_tags, milliseconds
from rayfit.track.evaluated import (
    Evaluation,
    error_of,
    evaluations_of,
    is_complete,
    last_finished,
    named_files,
    row_points,
    rows_of,
)
from rayfit.track.origin import made_by, status_of, sweep_times

ORIGINAL = "original"


def original_models(evaluations: list[Evaluation]) -> list[str | None]:
    """The models of a sweep, in its order; one None where the records do not name them."""
    return list(dict.fromkeys(entry.model for entry in evaluations if entry.trial_id is None))


def original_content(
    sweep: Mapping[str, Any], evaluations: list[Evaluation], *, finished: bool, only: str | None = None
) -> Content | None:
    """The run of the model before any training, at step 0; None while nothing of it is evaluated.

    `only`: its name, where the sweep has several.
    """
    own = evaluations_of(evaluations, None, model=only)
    rows = rows_of(sweep, None, only)
    records = [entry.record for entry in own if entry.record]
    error = error_of(sweep, None, only)
    if not records and error is None:
        return None
    first = records[0] if records else {}
    model = str(first.get("model_name") or only or "model")
    status = status_of(is_complete(own), error, finished)
    ended = last_finished(own) or milliseconds(sweep_times(sweep)[0]) or 0
    took = sum(as_number(record.get("seconds", {}).get("total")) or 0.0 for record in records)
    params = {"model": model, "dataset": first.get("domain"), "eval_precision": first.get("eval_precision")}
    params["num_new_tokens"] = first.get("num_new_tokens")
    known = {point.key: point for point in row_points(rows, own, ended, 0)}
    known |= {point.key: point for entry in own for point in entry.score_points(0)}
    tags = {
        "rayfit.arm": ORIGINAL,
        "rayfit.base_weights_sha256": first.get("checkpoint_weights_sha256"),
        "error": error if status == "FAILED" else None,
        **made_by(first),
    }
    return Content(
        name=f"{model} {ORIGINAL}",
        status=status,
        started=ended - round(took * 1000),
        ended=ended if status != "RUNNING" else None,
        identity={
            "rayfit.original": only or "true",
            "rayfit.edition": str(max((record.get("edition", 1) for record in records), default=1)),
        },
        tags=as_tags(tags),
        params=as_params(params),
        scores=tuple(known.values()),
        files=named_files(own),
    )
