"""The way MLflow's runs table shows a sweep: its children only, with the columns that compare them.

MLflow shows no metric until somebody picks it. Its interface keeps a view that a person shares as an
experiment's tag; this is such a tag, so that one link opens the comparison.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from rayfit.track.content import CURRENT, Content

TAG_PREFIX = "mlflow.sharedViewState."
CHECKPOINT_SCORES = ("train_loss", "train_accuracy", "validation_loss", "entropy_nats")
TEXT_SCORES = ("ttr_last_96", "longest_overlap_mean")
# these differ between trials without telling a reader anything
_NOT_TELLING = ("rows", "rows_fingerprint", "epochs", "model_parameters")


def view_place(experiment_id: str, parent_id: str) -> str:
    """What follows the UI's address to open the comparison."""
    # without the workflow MLflow's interface shows its pages for language-model traces beside it
    return f"#/experiments/{experiment_id}/runs?viewStateShareKey={parent_id}&workflowType=machine_learning"


def view_tag(parent_id: str, children: Sequence[Content]) -> tuple[str, str]:
    """The experiment's tag that holds the view: its name and its value."""
    shown = columns(children)
    state = {
        "searchFilter": f"tags.mlflow.parentRunId = '{parent_id}' and tags.`{CURRENT}` = 'true'",
        # ordered by date the table folds children under their parent again
        "orderByKey": next((name for name in shown if "ttr" in name), "tags.`mlflow.runName`"),
        "orderByAsc": True,
        "selectedColumns": shown,
        "columnOrder": shown,
    }
    return f"{TAG_PREFIX}{parent_id}", json.dumps(state, sort_keys=True)


def columns(children: Sequence[Content]) -> list[str]:
    """Parameters that differ between the trials, then the main scores, those of texts for every decoding."""
    trials = [child for child in children if "samples" in child.params]
    names = dict.fromkeys(name for child in trials for name in child.params if name not in _NOT_TELLING)
    varied = [name for name in names if len({child.params.get(name) for child in trials} - {None}) > 1]
    # the number of samples stands first even where a sweep holds it: without it no other number means much
    params = dict.fromkeys(["samples", *varied])
    measured = {point.key for child in children for point in child.scores}
    prefixes = sorted({key.rpartition("/")[0] for key in measured if key.rpartition("/")[2] in TEXT_SCORES})
    texts = [f"{prefix}/{name}" if prefix else name for name in TEXT_SCORES for prefix in prefixes]
    scores = [name for name in (*CHECKPOINT_SCORES, *texts, "minutes") if name in measured]
    return [f"params.`{name}`" for name in params] + [f"metrics.`{name}`" for name in scores]
