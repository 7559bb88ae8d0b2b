"""What one MLflow run is to hold, as a plain value: made from records, compared and written elsewhere."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from rayfit.identity import bytes_digest, digest, file_digest

# Whose run it is: a trial's, or, of an original model, the model's name.
TRIAL = "rayfit.trial_id"
MODEL = "rayfit.model"
EDITION = "rayfit.edition"
HYPERFITTED = "rayfit.hyperfitted"
# When the training that a run shows was over, or had failed, as its record says it.
TRAINED_AT = "rayfit.trained_at"
FAILED_AT = "rayfit.failed_at"
NOTE = "mlflow.note.content"  # MLflow shows it on top of a run's page, as Markdown
# On every child that is not superseded: MLflow cannot search for runs that lack a tag.
CURRENT = "rayfit.current"
# The time that the points of a curve count from which was written while its training went on, in milliseconds since
# 1970; a training's own start is in its record, and that is written last.
LIVE_SINCE = "rayfit.live_since"
MAX_TEXT = 5500  # characters of a tag or parameter; MLflow takes 8,000 and 6,000


class Point(NamedTuple):
    """One value of a metric. `step` counts optimiser updates; `time` is in milliseconds since 1970."""

    key: str
    value: float
    time: int
    step: int


class Dataset(NamedTuple):
    """The rows that a run was trained on: their id, the fingerprint of their token ids, and their folder."""

    name: str
    fingerprint: str
    place: str


class Told(NamedTuple):
    """What a sweep's own run tells of a child, and all of it that is kept once the child is written.

    `ended` in milliseconds since 1970; `metrics`: the names of its scores.
    """

    status: str
    ended: int | None
    is_trial: bool
    is_hyperfitted: bool
    metrics: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class Content:
    """All of one run: `started` and `ended` in milliseconds since 1970, `status` as MLflow says it.

    `identity`: tags by which the run is found again. `curve`: measurements along training, whose points never
    change. `scores`: one point per metric, replaced by a later one when a number is made again. `files`: by
    artifact path, a file on disk or text.
    """

    name: str
    status: str  # RUNNING, FINISHED, FAILED or KILLED
    started: int
    ended: int | None
    identity: dict[str, str]
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    curve: tuple[Point, ...] = ()
    scores: tuple[Point, ...] = ()
    files: dict[str, Path | str] = field(default_factory=dict)
    dataset: Dataset | None = None

    @property
    def told(self) -> Told:
        """What the sweep's own run tells of it."""
        return Told(
            status=self.status,
            ended=self.ended,
            is_trial=TRIAL in self.identity,
            is_hyperfitted=self.tags.get(HYPERFITTED) == "true",
            metrics=frozenset(point.key for point in self.scores),
        )

    def file_digests(self) -> dict[str, str]:
        """A short digest of every artifact's content."""
        return {path: _content_digest(source)[:16] for path, source in sorted(self.files.items())}

    def digest(self, files: dict[str, str]) -> str:
        """Of everything that would be written, given the files' digests."""
        runs = [self.name, self.status, self.started, self.ended, {**self.tags, **self.identity}, self.params]
        points = [sorted(map(list, self.curve)), sorted(map(list, self.scores))]
        return digest([runs, points, files, list(self.dataset) if self.dataset else None])

    def curve_digest(self) -> str:
        """Of the curve alone."""
        return digest(sorted(map(list, self.curve)))


def _content_digest(source: Path | str) -> str:
    return file_digest(source) if isinstance(source, Path) else bytes_digest(source.encode())


@cache
def valid_key(*parts: str) -> str:
    """The parts with slashes between, as MLflow allows it: `nucleus:top_p=0.8` is `nucleus:top_p_0.8`."""
    return "/".join(
        re.sub(r"[^\w\-.: ]", "_", part.replace(",", " "), flags=re.ASCII).strip() for part in parts
    )


def milliseconds(text: str | None) -> int | None:
    """Of an ISO-8601 time, UTC where it names no zone; None for None."""
    if text is None:
        return None
    time = datetime.fromisoformat(text)
    return round((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 1000)


def as_number(value: Any) -> float | None:
    """The value as a finite float, or None for what is no number and is not logged: MLflow's stores differ in NaN."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def points(values: Mapping[str, Any], time: int, step: int) -> list[Point]:
    """The numbers among `values`, all at one time and step."""
    numbers = {key: as_number(value) for key, value in values.items()}
    return [Point(key, number, time, step) for key, number in numbers.items() if number is not None]


def as_text(value: Any) -> str:
    """A tag's or parameter's value: text as it is, else JSON; cut where MLflow would refuse it."""
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of nested mappings under one key each, with dots between the keys of each level; lists stay whole."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def as_params(values: Mapping[str, Any]) -> dict[str, str]:
    """What is known among `values`, as MLflow's parameters."""
    return {valid_key(key): as_text(value) for key, value in values.items() if value not in (None, "")}


def as_tags(values: Mapping[str, Any]) -> dict[str, str]:
    """What is known among `values`, as tags, cut to the length that every MLflow store takes."""
    return {key: as_text(value) for key, value in values.items() if value is not None}


def latest(times: Iterable[int | None]) -> int | None:
    """The last of the times that are known."""
    return max((time for time in times if time is not None), default=None)
