"""What the run of a trial holds, and that of an original model: declared, curve, scores, files; or that it failed."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from rayfit.columns import ORIGINAL, POOLED, TRAINED, TRUTH, column, names, parameter_columns
from rayfit.records.storage import RECORD, TRIALS, Storage
from rayfit.records.sweep import Row
from rayfit.records.trial import Point as CurvePoint
from rayfit.records.trial import TrialFailure, TrialRecord
from rayfit.records.trials import finest_curve, read_failure
from rayfit.track.content import (
    EDITION,
    FAILED_AT,
    HYPERFITTED,
    MODEL,
    NOTE,
    TRAINED_AT,
    TRIAL,
    Content,
    Dataset,
    Point,
    as_params,
    as_tags,
    flatten,
    latest,
    milliseconds,
    points,
    valid_key,
)
from rayfit.track.index import SweepIndex
from rayfit.track.scores import (
    Measured,
    all_points,
    is_complete,
    last_finished,
    measured_files,
    measured_with,
    pooled_points,
    read_measured,
)

# Of a curve's point: its x axis, what has a metric of its own, and what never changes.
_NOT_CURVES = ("update", "epoch", "train_rows")
# Entries of a trial's record that are parameters of its run and no columns of rows.
_OF_RECORDS = ("precision", "adapter_blocks")
_MAX_NOTE = 5000


def trial_content(storage: Storage, sweep: SweepIndex, trial_id: str, *, finished: bool) -> Content | None:
    """The run of a trial, or None while it has neither a record nor a failure.

    Raises RayfitError for a record that cannot be read.
    """
    record = storage.trial(trial_id)
    if record is None:
        failure = read_failure(storage, trial_id)
        return None if failure is None else _failed_content(sweep, failure)
    own = read_measured(storage, sweep.names, sweep.planned(trial_id), record)
    error = sweep.error(trial_id)
    status = _status(is_complete(own), error, finished)
    folder = storage.folder(TRIALS, trial_id)
    curve_file = finest_curve(storage, record)
    files: dict[str, Path | str] = {RECORD: folder / RECORD, **measured_files(own)}
    if curve_file is not None:
        files["curve.parquet"] = curve_file
    trained = milliseconds(record.finished_at)
    tags = {
        "rayfit.who": TRAINED,
        column("arm").tag: sweep.arms(trial_id),
        TRAINED_AT: record.finished_at,
        HYPERFITTED: record.hyperfitted,
        "rayfit.deterministic_kernels": record.deterministic_kernels,
        "rayfit.base_weights_sha256": record.model.weights_sha256,
        "rayfit.weights_sha256": record.weights_sha256,
        # a failure does not undo what was finished before it
        "error" if status == "FAILED" else "rayfit.last_failure": error,
        **made_by(record.command, record.git_commit, record.versions),
    }
    return Content(
        name=record.readable,
        status=status,
        started=milliseconds(record.started_at) or 0,
        ended=latest([trained, last_finished(own)]) if status != "RUNNING" else None,
        identity=trial_identity(trial_id, record.edition),
        tags={**as_tags(tags), NOTE: _note(record, folder)},
        params={**_trial_params(record), **as_params(measured_with(own))},
        curve=tuple(_curve_points(record, curve_file)),
        scores=tuple(_trial_scores(sweep, record, own)),
        files=files,
        dataset=Dataset(record.rows.id, record.rows.fingerprint, str(storage.folder("rows", record.rows.id))),
    )


def original_content(storage: Storage, sweep: SweepIndex, model: str, *, finished: bool) -> Content | None:
    """The run of a model before any training, at step 0; None while nothing of it is measured.

    Raises RayfitError for a record that cannot be read.
    """
    own = read_measured(storage, sweep.names, sweep.planned(model))
    records = [each.record for each in own if each.record]
    error = sweep.error(model)
    if not records and error is None:
        return None
    status = _status(is_complete(own), error, finished)
    ended = last_finished(own) or milliseconds(sweep.record.launches[-1].started_at) or 0
    took = sum(record.seconds for record in records)
    rows = sweep.rows_of(model)
    known = _row_points(sweep, rows, ended, 0) | pooled_points(sweep.names, rows, ended, 0)
    tags = {
        "rayfit.who": ORIGINAL,
        "rayfit.base_weights_sha256": records[0].weights_sha256 if records else None,
        "error": error if status == "FAILED" else None,
        **(made_by("", records[0].git_commit, records[0].versions) if records else made_by()),
    }
    return Content(
        name=f"{model} original",
        status=status,
        started=ended - round(took * 1000),
        ended=ended if status != "RUNNING" else None,
        identity={"rayfit.original": "true", MODEL: model},
        tags=as_tags(tags),
        params=as_params({"model": model, **measured_with(own)}),
        scores=tuple((known | all_points(own, 0)).values()),
        files=measured_files(own),
    )


def trial_identity(trial_id: str, edition: int) -> dict[str, str]:
    """The tags by which a trial's run is found again."""
    return {TRIAL: trial_id, EDITION: str(edition)}


def declared_params(row: Row | None) -> dict[str, str]:
    """The parameters of a trial as a row of it says them, before the trial has a record."""
    return (
        {}
        if row is None
        else as_params({column(name).parameter: row.value(name) for name in parameter_columns()})
    )


def measured_points(measured: CurvePoint, started: int) -> list[Point]:
    """One measurement of a worker, as `curve/<name>` and `epoch`, over the number of updates.

    `started`: when its training began, in milliseconds since 1970. The time of a point is that and the point's own
    seconds, so that writing it twice stores it once.
    """
    time = started + round(1000 * measured.seconds)
    found = msgspec.structs.asdict(measured)
    values = {f"curve/{name}": value for name, value in found.items() if name not in _NOT_CURVES}
    return points({"epoch": measured.epoch, **values}, time, measured.update)


def made_by(
    command: str = "", git_commit: str | None = None, versions: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The tags that say what made a record: script, git commit, library versions."""
    scripts = [word for word in shlex.split(command) if word.endswith(".py")]
    return {
        "mlflow.source.name": scripts[0] if scripts else "rayfit",
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": git_commit,
        **{f"rayfit.version.{name}": version for name, version in sorted((versions or {}).items())},
    }


def _status(complete: bool, error: str | None, finished: bool) -> str:
    """MLflow's word: an unfinished run whose launch is over was interrupted, which MLflow calls KILLED."""
    if complete:
        return "FINISHED"
    if error is not None:
        return "FAILED"
    return "KILLED" if finished else "RUNNING"


def _failed_content(sweep: SweepIndex, failure: TrialFailure) -> Content:
    failed = milliseconds(failure.failed_at) or 0
    tags = {
        "rayfit.who": TRAINED,
        column("arm").tag: sweep.arms(failure.id),
        FAILED_AT: failure.failed_at,
        "error": failure.error,
        **made_by(),
    }
    return Content(
        name=failure.readable,
        status="FAILED",
        started=failed,
        ended=failed,
        identity=trial_identity(failure.id, failure.edition),
        tags={**as_tags(tags), NOTE: f"Failed:\n\n```\n{failure.error[:_MAX_NOTE]}\n```"},
        params={**declared_params(sweep.declared_row(failure.id)), **_as_declared(failure.declared or {})},
    )


def _trial_params(record: TrialRecord) -> dict[str, str]:
    """What was declared and where it ran, flat; what is the same in every sweep has its plain name."""
    chosen = {*(column(name).parameter for name in parameter_columns()), *_OF_RECORDS}
    return _as_declared(record.declared) | as_params(
        {
            **msgspec.structs.asdict(record.placement),
            **{name: getattr(record, name) for name in chosen & set(record.__struct_fields__)},
            "train_text": record.text,
            "model": record.model.name,
            "model_kind": record.model.kind,
            "model_parameters": record.model.parameters,
            "rows": record.rows.id,
            "rows_fingerprint": record.rows.fingerprint,
        }
    )


def _as_declared(declared: Mapping[str, Any]) -> dict[str, str]:
    """What a trial's id is the hash of: the model's and the text's own whole, the rest one by one, without its group."""
    rows = declared.get("rows", {})
    return as_params(
        {
            "model_declared": declared.get("model"),
            "text_declared": rows.get("text"),
            **flatten({key: value for key, value in rows.items() if key != "text"}),
            **flatten(declared.get("recipe", {})),
            **{key: value for key, value in declared.items() if not isinstance(value, Mapping)},
        }
    )


def _curve_points(record: TrialRecord, curve_file: Path | None) -> list[Point]:
    """The worker's own measurements, the last of them from the record where the file lacks it or is gone."""
    rows = pl.read_parquet(curve_file).to_dicts() if curve_file is not None else []
    measured = [CurvePoint(**row) for row in rows]
    if all(point.update != record.final.update for point in measured):
        measured.append(record.final)
    started = milliseconds(record.started_at) or 0
    return [point for each in measured for point in measured_points(each, started)]


def _trial_scores(sweep: SweepIndex, record: TrialRecord, own: Sequence[Measured]) -> list[Point]:
    """What the trial's record and the sweep's rows know, and over it the scores of what was measured."""
    step, time = record.updates_trained, milliseconds(record.finished_at) or 0
    seconds = msgspec.structs.asdict(record.seconds)
    values = {
        "updates": None if record.stop_at_train_loss is None else record.updates_trained,
        **{f"seconds/{valid_key(name)}": value for name, value in seconds.items()},
    }
    known = {(point.key, point.step): point for point in points(values, time, step)}
    rows = sweep.rows_of(record.id)
    known |= _row_points(sweep, rows, time, step) | pooled_points(sweep.names, rows, time, step)
    return list((known | all_points(own, step)).values())


def _row_points(sweep: SweepIndex, rows: Sequence[Row], time: int, step: int) -> dict[tuple[str, int], Point]:
    """Minutes and the like: once for a training; for an original, measured under each decoding, under its prefix."""
    of_training = names(lambda each: each.role == "about" and each.of == "training" and each.is_number)
    found: dict[tuple[str, int], Point] = {}
    for row in rows:
        is_matched = row.who == ORIGINAL and row.trial_id is not None
        if row.domain == POOLED or row.update is not None or row.who == TRUTH or is_matched:
            continue
        prefix = sweep.names.prefix(row.decoding, row.domain) if row.who == ORIGINAL else ()
        values = {valid_key(*prefix, name): row.value(name) for name in of_training}
        for point in points(values, time, step):
            found.setdefault((point.key, point.step), point)
    return found


def _note(record: TrialRecord, folder: Path) -> str:
    products = [
        f"- {each.name}: `{folder / each.path}`"
        for each in sorted(record.products, key=lambda each: each.name)
    ]
    lines = [f"`rayfit show {record.id}`", "", "Made by", "", f"    {record.command}", "", *products]
    return "\n".join(lines)[:_MAX_NOTE]
