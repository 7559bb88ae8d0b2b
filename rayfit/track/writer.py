"""Bring one MLflow run to what it is to hold: whatever is there already is not written again."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rayfit.track.connection import entities
from rayfit.track.content import CURRENT, MAX_TEXT, Content, Point

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

MAX_METRICS_PER_CALL = 1000
MAX_TAGS_PER_CALL = 100
MAX_DATASET_DIGEST = 36

# Digests, as JSON, of the whole run as written, of its curve and each artifact: only news is written again.
WRITTEN = "rayfit.written"
CHANGED = "rayfit.changed."
# before the name and not behind: MLflow's table cuts long names
SUPERSEDED = "superseded: "


def create_run(
    client: MlflowClient, experiment_id: str, content: Content, parent_id: str | None = None
) -> Run:
    """A new run that can be found again by its identity and under its parent; nothing else is in it yet."""
    parent = {} if parent_id is None else {"mlflow.parentRunId": parent_id}
    return client.create_run(
        experiment_id, start_time=content.started, tags={**content.identity, **parent}, run_name=content.name
    )


def write_run(client: MlflowClient, run: Run, content: Content) -> bool:
    """Write what differs; False when nothing does. What a crash leaves half-done the next call completes."""
    files = content.file_digests()
    wanted = content.digest(files)
    before = run.data.tags
    written = json.loads(before.get(WRITTEN, "{}"))
    if written.get("run") == wanted:
        return False
    run_id = run.info.run_id
    if written.get("curve") != content.curve_digest():
        # points that a crashed call wrote are the same to the millisecond: MLflow stores such a point once
        _log_metrics(client, run_id, content.curve)
    _log_metrics(client, run_id, _new_scores(client, run, content.scores))
    changed = _write_params(client, run, content)
    known = written.get("files", {})
    _write_files(
        client, run_id, {path: file for path, file in content.files.items() if known.get(path) != files[path]}
    )
    _write_dataset(client, run, content)
    tags = {**content.tags, **content.identity, **changed}
    for name in before:
        if _is_ours(name) and name not in tags:
            client.delete_tag(run_id, name)
    _log_tags(client, run_id, {name: value for name, value in tags.items() if before.get(name) != value})
    _write_status(client, run, content)
    now_written = {"run": wanted, "curve": content.curve_digest(), "files": files}
    if len(json.dumps(now_written)) > MAX_TEXT:  # then all files are sent again whenever anything changes
        del now_written["files"]
    client.set_tag(run_id, WRITTEN, json.dumps(now_written))
    return True


def supersede(client: MlflowClient, run: Run, successor_id: str) -> bool:
    """Mark a run as replaced, in its tags and its name; False when it is marked already."""
    wanted = {"rayfit.superseded": "true", "rayfit.superseded_by": successor_id}
    if all(run.data.tags.get(name) == value for name, value in wanted.items()):
        return False
    name = run.info.run_name.removeprefix(SUPERSEDED)
    _log_tags(client, run.info.run_id, wanted)
    client.update_run(run.info.run_id, name=f"{SUPERSEDED}{name}")
    if run.info.status == "RUNNING":
        client.set_terminated(run.info.run_id, status="KILLED", end_time=run.info.start_time)
    # without WRITTEN it is written as current again, should its record come back with an older storage
    for tag in {WRITTEN, CURRENT} & run.data.tags.keys():
        client.delete_tag(run.info.run_id, tag)
    return True


def _is_ours(name: str) -> bool:
    return name == "error" or (name.startswith("rayfit.") and name != WRITTEN)


def _new_scores(client: MlflowClient, run: Run, scores: Sequence[Point]) -> list[Point]:
    """Those not yet there; a number made again is moved behind the old one, so that it is the one shown."""
    new = []
    for point in scores:
        shown = run.data.metrics.get(point.key)
        if shown == point.value:
            continue
        if shown is not None:
            last = max(old.timestamp for old in client.get_metric_history(run.info.run_id, point.key))
            point = point._replace(time=max(point.time, last + 1))
        new.append(point)
    return new


def _write_params(client: MlflowClient, run: Run, content: Content) -> dict[str, str]:
    """Log new parameters. MLflow refuses to change one, so what changed is given back as tags."""
    known = run.data.params
    new = {name: value for name, value in content.params.items() if name not in known}
    for batch in _batches(new.items(), MAX_TAGS_PER_CALL):
        client.log_batch(
            run.info.run_id, params=[entities().Param(name, value) for name, value in batch], synchronous=True
        )
    changed = {name: value for name, value in content.params.items() if known.get(name, value) != value}
    return {f"{CHANGED}{name}": value for name, value in changed.items()}


def _write_files(client: MlflowClient, run_id: str, files: dict[str, Path | str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for path, source in files.items():
            # MLflow names an artifact after its file, so the file must have the artifact's name
            copy = Path(folder, path)
            copy.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(source, Path):
                shutil.copyfile(source, copy)
            else:
                copy.write_text(source, encoding="utf-8")
            parent = str(Path(path).parent)
            client.log_artifact(run_id, str(copy), None if parent == "." else parent)


def _write_dataset(client: MlflowClient, run: Run, content: Content) -> None:
    if content.dataset is None or run.inputs.dataset_inputs:
        return
    dataset = entities().Dataset(
        name=content.dataset.name,
        digest=content.dataset.fingerprint[:MAX_DATASET_DIGEST],
        source_type="local",
        source=json.dumps({"uri": content.dataset.place}),
    )
    tags = [entities().InputTag("mlflow.data.context", "training")]
    client.log_inputs(run.info.run_id, datasets=[entities().DatasetInput(dataset, tags)])


def _write_status(client: MlflowClient, run: Run, content: Content) -> None:
    if run.info.run_name != content.name:
        client.update_run(run.info.run_id, name=content.name)
    if content.status == "RUNNING":
        if run.info.status != "RUNNING":
            client.update_run(run.info.run_id, status="RUNNING")
    elif (run.info.status, run.info.end_time) != (content.status, content.ended):
        client.set_terminated(run.info.run_id, status=content.status, end_time=content.ended)


def _log_metrics(client: MlflowClient, run_id: str, points: Iterable[Point]) -> None:
    for batch in _batches(points, MAX_METRICS_PER_CALL):
        metrics = [entities().Metric(point.key, point.value, point.time, point.step) for point in batch]
        client.log_batch(run_id, metrics=metrics, synchronous=True)


def _log_tags(client: MlflowClient, run_id: str, tags: dict[str, str]) -> None:
    for batch in _batches(tags.items(), MAX_TAGS_PER_CALL):
        client.log_batch(
            run_id, tags=[entities().RunTag(name, value) for name, value in batch], synchronous=True
        )


def _batches(items: Iterable[Any], size: int) -> Iterable[list[Any]]:
    items = list(items)
    return [items[place : place + size] for place in range(0, len(items), size)]
