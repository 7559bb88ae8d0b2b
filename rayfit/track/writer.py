"""Bring one MLflow run to what it is to hold: whatever is there already is not written again."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rayfit.identity import digest
from rayfit.track.connection import entities
from rayfit.track.content import CURRENT, LIVE_SINCE, MAX_TEXT, Content, Point

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

MAX_METRICS_PER_CALL = 1000
MAX_TAGS_PER_CALL = 100
MAX_DATASET_DIGEST = 36

# Digests, as JSON, of the whole run as written, of its curve, its scores at each update and each artifact: only news
# is written again. What does not fit one tag goes on in others, numbered from 1.
WRITTEN = "rayfit.written"
CHANGED = "rayfit.changed."
# before the name and not behind: MLflow's table cuts long names
SUPERSEDED = "superseded: "


def create_run(
    client: MlflowClient,
    experiment_id: str,
    content: Content,
    parent_id: str | None = None,
    *,
    tags: Mapping[str, str] | None = None,
) -> Run:
    """A new run that can be found again by its identity and under its parent; but for `tags`, nothing else is in it."""
    parent = {} if parent_id is None else {"mlflow.parentRunId": parent_id}
    return client.create_run(
        experiment_id,
        start_time=content.started,
        tags={**(tags or {}), **content.identity, **parent},
        run_name=content.name,
    )


def write_run(client: MlflowClient, run: Run, content: Content) -> bool:
    """Write what differs; False when nothing does. What a crash leaves half-done the next call completes."""
    files = content.file_digests()
    wanted = content.digest(files)
    before = run.data.tags
    written = read_written(before)
    if written.get("run") == wanted:
        return False
    run_id = run.info.run_id
    curve, scores = content.curve_digest(), _digests_by_step(content.scores)
    if written.get("curve") != curve:
        # points that a crashed call wrote are the same to the millisecond: MLflow stores such a point once
        log_metrics(client, run_id, _as_live(run, content))
    known_scores = written.get("scores", {})
    changed = [
        point for point in content.scores if known_scores.get(str(point.step)) != scores[str(point.step)]
    ]
    log_metrics(client, run_id, _new_scores(client, run, changed, known_scores))
    known = written.get("files", {})
    _write_files(
        client, run_id, {path: file for path, file in content.files.items() if known.get(path) != files[path]}
    )
    _write_dataset(client, run, content)
    tags = {**content.tags, **content.identity, **write_params(client, run, content)}
    for name in before:
        if _is_ours(name) and name not in tags:
            client.delete_tag(run_id, name)
    _log_tags(client, run_id, {name: value for name, value in tags.items() if before.get(name) != value})
    _write_status(client, run, content)
    _write_written(client, run_id, {"run": wanted, "curve": curve, "scores": scores, "files": files})
    return True


def read_written(tags: Mapping[str, str]) -> dict[str, Any]:
    """What a run's tags say was written; nothing where the first of them is missing."""
    if WRITTEN not in tags:
        return {}
    pieces = [tags[WRITTEN]]
    while (further := tags.get(f"{WRITTEN}.{len(pieces)}")) is not None:
        pieces.append(further)
    # tags of a longer text than the present one may still stand behind it
    found: dict[str, Any] = json.JSONDecoder().raw_decode("".join(pieces))[0]
    return found


def _write_written(client: MlflowClient, run_id: str, written: Mapping[str, Any]) -> None:
    text = json.dumps(written)
    pieces = [text[place : place + MAX_TEXT] for place in range(0, len(text), MAX_TEXT)]
    _log_tags(
        client,
        run_id,
        {f"{WRITTEN}.{place}" if place else WRITTEN: piece for place, piece in enumerate(pieces)},
    )


def _digests_by_step(scores: Sequence[Point]) -> dict[str, str]:
    steps: dict[str, list[Point]] = {}
    for point in scores:
        steps.setdefault(str(point.step), []).append(point)
    return {step: digest(sorted(map(list, of_step)))[:8] for step, of_step in steps.items()}


def _as_live(run: Run, content: Content) -> list[Point]:
    """The curve, at the times that its first points have where they were written while training went on."""
    since = run.data.tags.get(LIVE_SINCE)
    shift = 0 if since is None else int(since) - content.started
    return [point._replace(time=point.time + shift) for point in content.curve]


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
    return name == "error" or (
        name.startswith("rayfit.") and name != LIVE_SINCE and not name.startswith(WRITTEN)
    )


def _new_scores(
    client: MlflowClient, run: Run, scores: Sequence[Point], written: Mapping[str, str]
) -> list[Point]:
    """Those not yet there; a number made again is moved behind the old one, so that it is the one shown.

    `written`: the updates of which scores are there already, perhaps with other values; empty where that is not known.
    """
    is_one_step = len({str(point.step) for point in scores} | written.keys()) == 1

    @cache
    def history(key: str) -> list[Metric]:
        return list(client.get_metric_history(run.info.run_id, key))

    new = []
    for point in scores:
        shown = run.data.metrics.get(point.key)
        if shown is None or (written and str(point.step) not in written):
            new.append(point)
        elif not (is_one_step and shown == point.value):
            old = [(entry.timestamp, entry.value) for entry in history(point.key) if entry.step == point.step]
            last, value = max(old, default=(point.time - 1, None))
            if value != point.value:
                new.append(point._replace(time=max(point.time, last + 1)))
    return new


def write_params(client: MlflowClient, run: Run, content: Content) -> dict[str, str]:
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
    if not files:
        return
    with tempfile.TemporaryDirectory() as folder:
        for path, source in files.items():
            # MLflow names an artifact after its file, so the file must have the artifact's name
            place = Path(folder, path)
            place.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(source, Path):
                place.symlink_to(source.resolve())
            else:
                place.write_text(source, encoding="utf-8")
        client.log_artifacts(run_id, folder)


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


def log_metrics(client: MlflowClient, run_id: str, points: Iterable[Point]) -> None:
    """Write points in as few calls as MLflow allows."""
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
