"""The child run of one trial: what was declared, its curve, its scores, its files; or that it failed."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rayfit.columns import TRAINED, column
from rayfit.records.storage import RECORD, Storage, read_json
from rayfit.records.trials import finest_curve
from rayfit.track.content import (
    Content,
    Dataset,
    Point,
    as_params,
    as_tags,
    latest,
    milliseconds,
    points,
    valid_key,
)
from rayfit.track.curve import curve_points
from rayfit.track.declared import declared_in_rows, trial_params
from rayfit.track.measured import (
    Measurement,
    all_points,
    is_complete,
    last_finished,
    named_files,
    of_trial,
)
from rayfit.track.origin import made_by, status_of, sweep_times
from rayfit.track.original import measured_by
from rayfit.track.summary import arms_of, failure_in, failure_of, row_points, rows_of_trial

FAILURE = "failure.json"


def trial_content(
    storage: Storage,
    sweep: Mapping[str, Any],
    trial_id: str,
    measurements: Sequence[Measurement],
    *,
    finished: bool,
) -> Content | None:
    """The run of a trial, or None while it has neither a record nor a failure."""
    folder = storage.folder("trials", trial_id)
    record = storage.read("trials", trial_id)
    rows = rows_of_trial(sweep, trial_id)
    error = sweep.get("failed", {}).get(trial_id) or failure_in(rows)
    if record is None:
        failure = read_json(folder / FAILURE) or ({"error": error} if error else None)
        return None if failure is None else _failed_content(sweep, trial_id, {"error": error, **failure})
    own = of_trial(measurements, record)
    error = error or failure_of(sweep, own)
    complete = is_complete(own) or (finished and not measurements)
    started = milliseconds(record.get("started_at"))
    trained = milliseconds(record.get("finished_at"))
    files: dict[str, Path | str] = {"record.json": folder / RECORD, **named_files(own)}
    curve_file = finest_curve(storage, record)
    if curve_file:
        files["curve.parquet"] = curve_file
    status = status_of(complete, error, finished)
    tags = {
        "rayfit.who": TRAINED,
        column("arm").tag: arms_of(sweep, trial_id),
        "rayfit.trained_at": record.get("finished_at"),
        "rayfit.hyperfitted": record.get("hyperfitted"),
        "rayfit.deterministic_kernels": record.get("deterministic_kernels"),
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
        params={**trial_params(record), **as_params(measured_by(own))},
        curve=tuple(curve_points(record, curve_file)),
        scores=tuple(_scores(sweep, record, rows, own)),
        files=files,
        dataset=_dataset(storage, record),
    )


def _trial_identity(trial_id: str, record: Mapping[str, Any]) -> dict[str, str]:
    return {"rayfit.trial_id": trial_id, "rayfit.edition": str(record.get("edition", 1))}


def _failed_content(sweep: Mapping[str, Any], trial_id: str, failure: Mapping[str, Any]) -> Content:
    failed = milliseconds(failure.get("failed_at")) or milliseconds(sweep_times(sweep)[1]) or 0
    tags = {
        "rayfit.who": TRAINED,
        column("arm").tag: arms_of(sweep, trial_id),
        "rayfit.failed_at": failure.get("failed_at"),
        "error": failure.get("error") or "unknown",
        **made_by(failure),
    }
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
        params={**declared_in_rows(sweep, trial_id), **trial_params(failure)},
    )


def _scores(
    sweep: Mapping[str, Any],
    record: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    own: list[Measurement],
) -> list[Point]:
    """What the trial's record and the summary know, and over it the evaluators' scores."""
    step = int(record.get("updates_trained") or record.get("num_updates") or 0)
    time = milliseconds(record.get("finished_at")) or 0
    values = {
        "updates": None if record.get("stop_at_train_loss") is None else record.get("updates_trained"),
        "train_loss_floor": record.get("floor"),
        "overhead_seconds": record.get("overhead_seconds"),
        **{f"seconds/{valid_key(name)}": value for name, value in record.get("seconds", {}).items()},
    }
    known = {(point.key, point.step): point for point in points(values, time, step)}
    known |= row_points(sweep, rows, own, time, step)
    return list((known | all_points(own, step)).values())


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
