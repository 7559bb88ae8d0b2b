"""Which of MLflow's runs show the same model or trial, and which of them the very training that a content is of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rayfit.track.content import LIVE_SINCE, Content, milliseconds

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

# Every measurement of a worker has it, so its points tell one training from another.
_WITNESS = "curve/train_loss"


def same_subject(runs: Sequence[Run], content: Content) -> list[Run]:
    """The runs of the content's trial, or of its model before any training; those that were replaced come last.

    Those made while training went on come first: by its curve such a run shows which training it is of, where another
    only shows that its own failed.
    """
    found = [run for run in runs if _is_of_subject(run, content)]
    return sorted(
        found, key=lambda run: ("rayfit.superseded" in run.data.tags, LIVE_SINCE not in run.data.tags)
    )


def current_run(client: MlflowClient, runs: Sequence[Run], content: Content) -> Run | None:
    """The run, among those of the same subject, that shows the content's own training; None where none does."""
    return next((run for run in runs if _shows(client, run, content)), None)


def is_under_way(run: Run, content: Content) -> bool:
    """Whether a run shows a training that began after the content's ended, and still goes on."""
    ended = milliseconds(content.tags.get("rayfit.trained_at") or content.tags.get("rayfit.failed_at"))
    return is_live(run) and ended is not None and int(run.data.tags[LIVE_SINCE]) > ended


def is_live(run: Run) -> bool:
    """Whether a run was made while its training went on, and nothing has said since how it ended."""
    return LIVE_SINCE in run.data.tags and run.info.status == "RUNNING" and _trained_at(run) is None


def was_given_up(run: Run) -> bool:
    """Whether a run shows a training that was cut off, once its trial is trained anew."""
    tags = run.data.tags
    unfinished = LIVE_SINCE in tags and _trained_at(run) is None and run.info.status != "FAILED"
    return unfinished and "rayfit.superseded" not in tags


def has_failed(run: Run) -> bool:
    """Whether a run shows a training that failed, of which no record says anything once it is tried again."""
    return "rayfit.trial_id" in run.data.tags and run.info.status == "FAILED" and _trained_at(run) is None


def _is_of_subject(run: Run, content: Content) -> bool:
    tags, identity = run.data.tags, content.identity
    if "rayfit.trial_id" in identity:
        return bool(tags.get("rayfit.trial_id") == identity["rayfit.trial_id"])
    # runs from before sweeps had several models say theirs as a parameter only
    model = tags.get("rayfit.model") or run.data.params.get("model")
    return "rayfit.original" in tags and model in (None, identity["rayfit.model"])


def _trained_at(run: Run) -> str | None:
    found: str | None = run.data.tags.get("rayfit.trained_at")
    return found


def _shows(client: MlflowClient, run: Run, content: Content) -> bool:
    """Whether a run shows this very training: the same edition, trained at the same time if it ever was.

    A trial that is trained once more for a product it lacked keeps its edition and still gets a run of its
    own: two curves in one run would be two values at every step.
    """
    if run.data.tags.get("rayfit.edition") != content.identity["rayfit.edition"]:
        return False
    if (trained_at := _trained_at(run)) is not None:
        return trained_at == content.tags.get("rayfit.trained_at")
    return LIVE_SINCE not in run.data.tags or _is_its_beginning(client, run, content)


def _is_its_beginning(client: MlflowClient, run: Run, content: Content) -> bool:
    """Whether what was written while a training went on is the beginning of the content's curve."""
    since = int(run.data.tags[LIVE_SINCE])
    if content.status == "FAILED" and "rayfit.failed_at" in content.tags:
        failed_at = content.tags["rayfit.failed_at"]
        if run.info.status != "RUNNING":
            return bool(run.data.tags.get("rayfit.failed_at") == failed_at)
        return since <= (milliseconds(failed_at) or 0)
    measured = {
        (point.step, point.time - content.started, point.value)
        for point in content.curve
        if point.key == _WITNESS
    }
    if _WITNESS not in run.data.metrics:
        return False
    history = client.get_metric_history(run.info.run_id, _WITNESS)
    return {(point.step, point.timestamp - since, point.value) for point in history} <= measured
