"""The way MLflow's runs table shows a sweep: its children only, with the columns that compare them.

MLflow shows no metric until somebody picks it. Its interface keeps a view that a person shares as an
experiment's tag; this is such a tag, so that one link opens the comparison.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rayfit.report.labels import telling
from rayfit.report.rows import POOLED
from rayfit.track.content import CURRENT, Content

TAG_PREFIX = "mlflow.sharedViewState."
CHECKPOINT_SCORES = ("train_loss", "train_accuracy", "validation_loss", "entropy_nats", "top_1_agreement")
TEXT_SCORES = ("ttr_last_96", "longest_overlap_mean")
ARM_TAG = "rayfit.arm"
_FIRST = ("", POOLED)
# what `telling` calls otherwise than the runs' parameters do
_PARAMS = {"updates": "num_updates"}


def view_place(experiment_id: str, parent_id: str) -> str:
    """What follows the UI's address to open the comparison."""
    # without the workflow MLflow's interface shows its pages for language-model traces beside it
    return f"#/experiments/{experiment_id}/runs?viewStateShareKey={parent_id}&workflowType=machine_learning"


def view_tag(parent_id: str, children: Sequence[Content], figures: Iterable[str] = ()) -> tuple[str, str]:
    """The experiment's tag that holds the view: its name and its value. `figures`: scores that the figures show."""
    shown = columns(children, figures)
    state = {
        "searchFilter": f"tags.mlflow.parentRunId = '{parent_id}' and tags.`{CURRENT}` = 'true'",
        # ordered by date the table folds children under their parent again
        "orderByKey": next((name for name in shown if "ttr" in name), "tags.`mlflow.runName`"),
        "orderByAsc": True,
        "selectedColumns": shown,
        "columnOrder": shown,
    }
    return f"{TAG_PREFIX}{parent_id}", json.dumps(state, sort_keys=True)


def columns(children: Sequence[Content], figures: Iterable[str] = ()) -> list[str]:
    """What tells the trials apart, then the main scores, each for every decoding and domain that it is measured in.

    Those with one column come first, then those of texts, over all domains pooled before each of them. The scores of
    the sweep's figures are shown of plain greedy decoding only, pooled where there are several domains.
    """
    measured = {point.key for child in children for point in child.scores}
    prefixes: dict[str, list[str]] = {}
    for key in sorted(measured):
        prefix, _, name = key.rpartition("/")
        prefixes.setdefault(name, []).append(prefix)
    single = [name for name in (*CHECKPOINT_SCORES, *TEXT_SCORES) if len(prefixes.get(name, ())) == 1]
    several = [name for name in (*TEXT_SCORES, *CHECKPOINT_SCORES) if len(prefixes.get(name, ())) > 1]
    scores = [
        _key(prefix, name)
        for name in (*single, *several)
        for prefix in sorted(prefixes[name], key=lambda prefix: (prefix not in _FIRST, prefix))
    ]
    scores += [_key(prefix, name) for name in figures for prefix in _FIRST]
    shown = [name for name in dict.fromkeys((*scores, "updates", "minutes")) if name in measured]
    return [*_declared_columns(children), *(f"metrics.`{name}`" for name in shown)]


def _declared_columns(children: Sequence[Content]) -> list[str]:
    """What tells the trials apart: arms first, then the number of samples even where a sweep holds it.

    Without that number no other means much.
    """
    trials = [_as_row(child) for child in children if "samples" in child.params]
    found = telling(trials, but=("domain", "decoding"))
    # no name for people has seeds in it, but here is room for them
    if _varies(trials, "sample_seed"):
        found.append("sample_seed")
    if any(row.get("order_seed") != row.get("sample_seed") for row in trials):
        found.append("order_seed")
    arms = [f"tags.`{ARM_TAG}`"] if _varies(trials, "arm") else []
    names = dict.fromkeys(["samples", *(name for name in found if name != "arm")])
    return [*arms, *(f"params.`{_PARAMS.get(name, name)}`" for name in names)]


def _as_row(child: Content) -> dict[str, Any]:
    """The run's parameters as columns of a summary's row."""
    renamed = {name: child.params.get(param) for name, param in _PARAMS.items()}
    return {**child.params, **renamed, "arm": child.tags.get(ARM_TAG)}


def _varies(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    return len({row.get(name) for row in rows}) > 1


def _key(prefix: str, name: str) -> str:
    return f"{prefix}/{name}" if prefix else name
