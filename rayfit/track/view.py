"""The way MLflow's runs table shows a sweep: its children only, with the columns that compare them.

MLflow shows no metric until somebody picks it. Its interface keeps a view that a person shares as an
experiment's tag; this is such a tag, so that one link opens the comparison.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from rayfit.columns import COLUMNS, POOLED, TRAINED, column, columns_of_evaluations, names
from rayfit.findings.labels import telling, varies
from rayfit.records.sweep import Row, SweepRecord
from rayfit.report.board import wanted_columns
from rayfit.track.content import CURRENT

TAG_PREFIX = "mlflow.sharedViewState."
_FIRST = ("", POOLED)


def view_place(experiment_id: str, parent_id: str) -> str:
    """What follows the UI's address to open the comparison."""
    # without the workflow MLflow's interface shows its pages for language-model traces beside it
    return f"#/experiments/{experiment_id}/runs?viewStateShareKey={parent_id}&workflowType=machine_learning"


def view_tag(
    parent_id: str, record: SweepRecord, rows: Sequence[Row], measured: Iterable[str]
) -> tuple[str, str]:
    """The experiment's tag that holds the view: its name and its value.

    `rows`: the sweep's by now; `measured`: the names of its children's scores.
    """
    shown = shown_columns(rows, set(measured), wanted_columns(record, with_paper=False))
    state = {
        "searchFilter": f"tags.mlflow.parentRunId = '{parent_id}' and tags.`{CURRENT}` = 'true'",
        # ordered by date the table folds children under their parent again
        "orderByKey": next((name for name in shown if "ttr" in name), "tags.`mlflow.runName`"),
        "orderByAsc": True,
        "selectedColumns": shown,
        "columnOrder": shown,
    }
    return f"{TAG_PREFIX}{parent_id}", json.dumps(state, sort_keys=True)


def shown_columns(rows: Sequence[Row], measured: set[str], asked: Iterable[str] = ()) -> list[str]:
    """What tells the trials apart, then the main scores, each for every decoding and domain that it is measured in.

    Those with one column come first, then those of texts, over all domains pooled before each of them. Scores of texts
    that the sweep asks for (`asked`) are shown of plain greedy decoding only, pooled where there are several domains.
    """
    prefixes: dict[str, list[str]] = {}
    for key in sorted(measured):
        prefix, _, name = key.rpartition("/")
        prefixes.setdefault(name, []).append(prefix)
    always = names(lambda each: each.role == "measured" and bool(each.always))
    asked = [name for name in asked if name in COLUMNS and name not in always]
    # of asked scores that a decoding changes, every domain's would be too many
    common = [*always, *(name for name in asked if column(name).of != "texts")]
    of_weights = [name for name in common if column(name).of != "texts"]
    of_texts = [name for name in common if column(name).of == "texts"]
    single = [name for name in (*of_weights, *of_texts) if len(prefixes.get(name, ())) == 1]
    several = [name for name in (*of_texts, *of_weights) if len(prefixes.get(name, ())) > 1]
    scores = [
        _key(prefix, name)
        for name in (*single, *several)
        for prefix in sorted(prefixes[name], key=lambda prefix: (prefix not in _FIRST, prefix))
    ]
    scores += [_key(prefix, name) for name in asked for prefix in _FIRST]
    shown = [name for name in dict.fromkeys((*scores, "updates", "minutes")) if name in measured]
    return [*_declared_columns(rows), *(f"metrics.`{name}`" for name in shown)]


def _declared_columns(rows: Sequence[Row]) -> list[str]:
    """What tells the trials apart: arms first, then the number of samples even where a sweep holds it.

    Without that number no other means much.
    """
    trials = [row for row in rows if row.who == TRAINED and row.update is None]
    found = telling(trials, but=columns_of_evaluations())
    # no name for people has seeds in it, but here is room for them
    if varies(trials, "seed"):
        found.append("seed")
    if any(row.order_seed != row.seed for row in trials):
        found.append("order_seed")
    tagged = names(lambda each: bool(each.tag))
    tags = [f"tags.`{column(name).tag}`" for name in tagged if varies(trials, name)]
    params = dict.fromkeys(["samples", *(name for name in found if name not in tagged)])
    return [*tags, *(f"params.`{column(name).parameter}`" for name in params)]


def _key(prefix: str, name: str) -> str:
    return f"{prefix}/{name}" if prefix else name
