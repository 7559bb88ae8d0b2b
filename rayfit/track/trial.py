"""The child run of one trial: what was declared, its curve, its scores, its files; or that it failed."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from rayfit.records.storage import RECORD, Storage, read_json
from rayfit.track.content import (
    Content,
    Dataset,
    Point,
    as_number,
    as_params,
    as_tags,
    flatten,
    latest,
    milliseconds,
    points,
    valid_key,
)
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

FAILURE = "failure.json"
# columns of a curve's file: its x axis, what has a metric of its own, and what never changes
_NOT_CURVES = ("update", "epoch", "train_rows")


def trial_content(
    storage: Storage,
    sweep: Mapping[str, Any],
    trial_id: str,
    evaluations: list[Evaluation],
    *,
    finished: bool,
) -> Content | None:
    """The run of a trial, or None while it has neither a record nor a failure."""
    folder = storage.folder("trials", trial_id)
    record = storage.read("trials", trial_id)
    error = error_of(sweep, trial_id)
    if record is None:
        failure = read_json(folder / FAILURE) or ({"error": error} if error else None)
        return None if failure is None else _failed_content(sweep, trial_id, {"error": error, **failure})
    own = evaluations_of(evaluations, trial_id, record.get("weights_sha256"))
    complete = is_complete(own) or (finished and not evaluations)
    started = milliseconds(record.get("started_at"))
    trained = milliseconds(record.get("finished_at"))
    files: dict[str, Path | str] = {"record.json": folder / RECORD, **named_files(own)}
    curve_file = _curve_file(record, folder)
    if curve_file:
        files["curve.parquet"] = curve_file
    status = status_of(complete, error, finished)
    tags = {
        "rayfit.arm": "hyperfitted",
        "rayfit.variant": ", ".join(name for name, ids in sweep.get("arms", {}).items() if trial_id in ids)
        or None,
        "rayfit.trained_at": record.get("finished_at"),
        "rayfit.hyperfitted": record.get("hyperfitted"),
        "rayfit.base_weights_sha256": record.get("model", {}).get("weights_sha256"),
        "rayfit.weights_sha256": record.get("weights_sha256"),
        # a failure does not undo what was finished before it
        "error" if status == "FAILED" else "rayfit.last_failure": error,
        **made_by(record),
    }
    return Content(
        name=record.get("readable") or trial_id,
        status=status,
        started=started or trained or 0,
        ended=latest([trained, last_finished(own)]) if status != "RUNNING" else None,
        identity=_trial_identity(trial_id, record),
        tags={**as_tags(tags), "mlflow.note.content": _note(trial_id, record, folder)},
        params={**trial_params(record), **as_params(_measured_by(own))},
        curve=tuple(curve_points(record, curve_file)),
        scores=tuple(_scores(sweep, trial_id, record, own)),
        files=files,
        dataset=_dataset(storage, record),
    )


def trial_params(record: Mapping[str, Any]) -> dict[str, str]:
    """What was declared and where it ran, flat; what is the same in every sweep has its plain name."""
    declared = record.get("declared", {})
    rows = declared.get("rows", {})
    model = record.get("model", {})
    return as_params(
        {
            "model_declared": declared.get("model"),
            "text_declared": rows.get("text"),
            **flatten({key: value for key, value in rows.items() if key != "text"}),
            **flatten(declared.get("recipe", {})),
            **{key: value for key, value in declared.items() if not isinstance(value, Mapping)},
            **flatten(record.get("placement", {})),
            **{
                key: record.get(key)
                for key in ("samples", "num_updates", "epochs", "learning_rate", "batch_size")
            },
            "precision": record.get("precision"),
            "adapter": record.get("adapter"),
            "trainable_parameters": record.get("trainable_parameters"),
            "updates_trained": record.get("updates_trained"),
            "dataset": record.get("text"),
            "model": model.get("name"),
            "model_kind": model.get("kind"),
            "model_parameters": model.get("parameters"),
            "rows": record.get("rows", {}).get("id"),
            "rows_fingerprint": record.get("rows", {}).get("fingerprint"),
        }
    )


def curve_points(record: Mapping[str, Any], curve_file: Path | None) -> list[Point]:
    """The worker's own measurements as `curve/<name>`, and `epoch`, over the number of updates.

    The time of a point is the trial's start plus its seconds, so that logging it twice stores it once.
    """
    started = milliseconds(record.get("started_at")) or 0
    measured = pl.read_parquet(curve_file).to_dicts() if curve_file else []
    final = record.get("final") or {}
    if final and all(row["update"] != final.get("update") for row in measured):
        measured.append({"update": record.get("num_updates"), **final})
    found: list[Point] = []
    for row in measured:
        if row.get("update") is None:
            continue
        time = started + round(1000 * (as_number(row.get("seconds")) or 0.0))
        values = {f"curve/{key}": value for key, value in row.items() if key not in _NOT_CURVES}
        found += points({"epoch": row.get("epoch"), **values}, time, int(row["update"]))
    return found


def _trial_identity(trial_id: str, record: Mapping[str, Any]) -> dict[str, str]:
    return {"rayfit.trial_id": trial_id, "rayfit.edition": str(record.get("edition", 1))}


def _failed_content(sweep: Mapping[str, Any], trial_id: str, failure: Mapping[str, Any]) -> Content:
    row: Mapping[str, Any] = next(iter(rows_of(sweep, trial_id)), {})
    known = {"samples": row.get("samples"), "num_updates": row.get("updates"), "epochs": row.get("epochs")}
    failed = milliseconds(failure.get("failed_at")) or milliseconds(sweep_times(sweep)[1]) or 0
    tags = {"rayfit.arm": "hyperfitted", "error": failure.get("error") or "unknown", **made_by(failure)}
    return Content(
        name=failure.get("readable") or trial_id,
        status="FAILED",
        started=failed,
        ended=failed,
        identity=_trial_identity(trial_id, failure),
        tags={
            **as_tags(tags),
            "mlflow.note.content": f"Failed:\n\n```\n{as_tags(tags)['error'][:5000]}\n```",
        },
        params={**as_params(known), **trial_params(failure)},
    )


def _measured_by(own: list[Evaluation]) -> dict[str, Any]:
    record: Mapping[str, Any] = next((entry.record for entry in own if entry.record), {})
    return {name: record.get(name) for name in ("eval_precision", "num_new_tokens")}


def _curve_file(record: Mapping[str, Any], folder: Path) -> Path | None:
    """The curve with the most points, where the trial was measured in more than one way."""
    products = record.get("products", {})
    files = [folder / products[name] for name in sorted(products) if name.startswith("curve-")]
    rows = {path: pl.scan_parquet(path).select(pl.len()).collect().item() for path in files if path.is_file()}
    return max(rows, key=lambda path: rows[path], default=None)


def _scores(
    sweep: Mapping[str, Any], trial_id: str, record: Mapping[str, Any], own: list[Evaluation]
) -> list[Point]:
    """The evaluators' scores, then what only the summary and the trial's record know."""
    step = int(record.get("updates_trained") or record.get("num_updates") or 0)
    time = milliseconds(record.get("finished_at")) or 0
    values = {
        "train_loss_floor": record.get("floor"),
        "overhead_seconds": record.get("overhead_seconds"),
        **{f"seconds/{valid_key(name)}": value for name, value in record.get("seconds", {}).items()},
    }
    found = [
        *points(values, time, step),
        *row_points(rows_of(sweep, trial_id), own, time, step),
        *(point for entry in own for point in entry.score_points(step)),
    ]
    return list({(point.key, point.step): point for point in found}.values())


def _dataset(storage: Storage, record: Mapping[str, Any]) -> Dataset | None:
    rows = record.get("rows", {})
    if not rows.get("id") or not rows.get("fingerprint"):
        return None
    return Dataset(rows["id"], rows["fingerprint"], str(storage.folder("rows", rows["id"])))


def _note(trial_id: str, record: Mapping[str, Any], folder: Path) -> str:
    command = record.get("command") or []
    line = command if isinstance(command, str) else shlex.join(map(str, command))
    products = [f"- {name}: `{folder / path}`" for name, path in sorted(record.get("products", {}).items())]
    made = ["", "Made by", "", f"    {line}"] if line else []
    return "\n".join([f"`rayfit show {trial_id}`", *made, "", *products])[:5000]
