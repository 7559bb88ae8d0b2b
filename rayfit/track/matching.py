"""Which of MLflow's runs show the same model or trial, and which of them the very training that a content is of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rayfit.track.content import (
    EDITION,
    FAILED_AT,
    LIVE_SINCE,
    MODEL,
    TRAINED_AT,
    TRIAL,
    Content,
    Point,
    milliseconds,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

SUPERSEDED_TAG = "rayfit.superseded"
# Every measurement of a worker has it, so its points tell one training from another.
_WITNESS = "curve/train_loss"


def by_child(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """A sweep's runs by the trial, or the original model, that they show; those that were replaced come last.

    Those made while training went on come first: by its curve such a run shows which training it is of, where another
    only shows that its own failed.
    """
    found: dict[str, list[Run]] = {}
    for run in runs:
        child = run.data.tags.get(TRIAL) or run.data.tags.get(MODEL)
        if child is not None:
            found.setdefault(child, []).append(run)
    for own in found.values():
        own.sort(key=lambda run: (SUPERSEDED_TAG in run.data.tags, LIVE_SINCE not in run.data.tags))
    return found


def current_run(client: MlflowClient, runs: Sequence[Run], content: Content) -> Run | None:
    """The run, among those of the same child, that shows the content's own training; None where none does."""
    return next((run for run in runs if _shows(client, run, content)), None)


def is_under_way(run: Run, content: Content) -> bool:
    """True when a run shows a training that began after the content's ended, and still goes on."""
    ended = milliseconds(content.tags.get(TRAINED_AT) or content.tags.get(FAILED_AT))
    return is_live(run) and ended is not None and int(run.data.tags[LIVE_SINCE]) > ended


def is_live(run: Run) -> bool:
    """True when a run was made while its training went on, and nothing has said since how it ended."""
    return LIVE_SINCE in run.data.tags and run.info.status == "RUNNING" and TRAINED_AT not in run.data.tags


def was_given_up(run: Run) -> bool:
    """True when a run shows a training that was cut off, once its trial is trained anew."""
    tags = run.data.tags
    unfinished = LIVE_SINCE in tags and TRAINED_AT not in tags and run.info.status != "FAILED"
    return unfinished and SUPERSEDED_TAG not in tags


def has_failed(run: Run) -> bool:
    """True when a run shows a training that failed, of which no record says anything once it is tried again."""
    tags = run.data.tags
    return TRIAL in tags and run.info.status == "FAILED" and TRAINED_AT not in tags


def _shows(client: MlflowClient, run: Run, content: Content) -> bool:
    """True when a run shows this very training: the same edition, trained at the same time if it ever was.

    A trial that is trained once more for a product it lacked keeps its edition and still gets a run of its
    own: two curves in one run would be two values at every step. An original model is trained never, and has one run.
    """
    tags = run.data.tags
    if tags.get(EDITION) != content.identity.get(EDITION):
        return False
    if TRAINED_AT in tags:
        return bool(tags[TRAINED_AT] == content.tags.get(TRAINED_AT))
    return LIVE_SINCE not in tags or _is_its_beginning(client, run, content)


def _is_its_beginning(client: MlflowClient, run: Run, content: Content) -> bool:
    """True when what was written while a training went on is the beginning of the content's curve."""
    tags = run.data.tags
    since = int(tags[LIVE_SINCE])
    if FAILED_AT in content.tags:
        if run.info.status != "RUNNING":
            return bool(tags.get(FAILED_AT) == content.tags[FAILED_AT])
        return since <= (milliseconds(content.tags[FAILED_AT]) or 0)
    return _has_only(client, run, content.curve, content.started)


def goes_on(client: MlflowClient, run: Run, curve: Iterable[Point], started: int) -> bool:
    """True when a run was left by a training that was interrupted, whose curve by now is this one.

    `started`: from when on the times of the curve count, in milliseconds since 1970.
    """
    return was_given_up(run) and _has_only(client, run, curve, started)


def _has_only(client: MlflowClient, run: Run, curve: Iterable[Point], started: int) -> bool:
    """True when the run has points of this curve, and no others."""
    if _WITNESS not in run.data.metrics:
        return False
    measured = {(point.step, point.time - started, point.value) for point in curve if point.key == _WITNESS}
    # The run's own beginning is the driver's guess, so moments are compared from it on.
    since = int(run.data.tags[LIVE_SINCE])
    history = client.get_metric_history(run.info.run_id, _WITNESS)
    return {(point.step, point.timestamp - since, point.value) for point in history} <= measured
