"""The way MLflow's runs table shows a sweep: its children only, with the columns that compare them.

MLflow shows no metric until somebody picks it. Its interface keeps a view that a person shares as an
experiment's tag; this is such a tag, so that one link opens the comparison.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rayfit.records.sweep import Row
from rayfit.track.columns import CHECKPOINT_SCORES, PARAMS, POOLED, TEXT_SCORES, telling, varies
from rayfit.track.content import CURRENT

TAG_PREFIX = "mlflow.sharedViewState."
ARM_TAG = "rayfit.arm"
_FIRST = ("", POOLED)


def view_place(experiment_id: str, parent_id: str) -> str:
    """What follows the UI's address to open the comparison."""
    # without the workflow MLflow's interface shows its pages for language-model traces beside it
    return f"#/experiments/{experiment_id}/runs?viewStateShareKey={parent_id}&workflowType=machine_learning"


def view_tag(
    parent_id: str, rows: Sequence[Row], measured: Iterable[str], figures: Iterable[str] = ()
) -> tuple[str, str]:
    """The experiment's tag that holds the view: its name and its value.

    `rows`: the sweep's; `measured`: the names of its children's scores; `figures`: scores that its figures show.
    """
    shown = columns(rows, set(measured), figures)
    state = {
        "searchFilter": f"tags.mlflow.parentRunId = '{parent_id}' and tags.`{CURRENT}` = 'true'",
        # ordered by date the table folds children under their parent again
        "orderByKey": next((name for name in shown if "ttr" in name), "tags.`mlflow.runName`"),
        "orderByAsc": True,
        "selectedColumns": shown,
        "columnOrder": shown,
    }
    return f"{TAG_PREFIX}{parent_id}", json.dumps(state, sort_keys=True)


def columns(rows: Sequence[Row], measured: set[str], figures: Iterable[str] = ()) -> list[str]:
    """What tells the trials apart, then the main scores, each for every decoding and domain that it is measured in.

    Those with one column come first, then those of texts, over all domains pooled before each of them. The scores of
    the sweep's figures are shown of plain greedy decoding only, pooled where there are several domains.
    """
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
    return [*_declared_columns(rows), *(f"metrics.`{name}`" for name in shown)]


def figure_scores(figures: Iterable[Mapping[str, Any]]) -> list[str]:
    """The scores that a sweep's figures are about."""
    found = [figure.get("y", []) for figure in figures]
    return [name for each in found for name in ([each] if isinstance(each, str) else each)]


def _declared_columns(rows: Sequence[Row]) -> list[str]:
    """What tells the trials apart: arms first, then the number of samples even where a sweep holds it.

    Without that number no other means much.
    """
    trials = [row for row in rows if row.who == "trained" and row.update is None]
    found = telling(trials)
    # no name for people has seeds in it, but here is room for them
    if varies(trials, "seed"):
        found.append("seed")
    if any(row.order_seed != row.seed for row in trials):
        found.append("order_seed")
    arms = [f"tags.`{ARM_TAG}`"] if varies(trials, "arm") else []
    names = dict.fromkeys(["samples", *(name for name in found if name != "arm")])
    return [*arms, *(f"params.`{PARAMS[name]}`" for name in names)]


def _key(prefix: str, name: str) -> str:
    return f"{prefix}/{name}" if prefix else name
