"""A sweep's parent run: the question, the table as a note, the report's files, totals to compare by."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from rayfit.records.storage import Storage
from rayfit.track.content import (
    MAX_TEXT,
    Content,
    Point,
    as_number,
    as_params,
    as_tags,
    milliseconds,
    points,
)
from rayfit.track.evaluated import PLAIN, short_names
from rayfit.track.origin import made_by, sweep_times

REPORTS = (
    *("report.html", "table.txt", "plot.png", "summary.json", "scores.json"),
    *("results.parquet", "results.csv"),
)
COLUMNS = (
    "arm",
    "variant",
    "model",
    "train_text",
    "decoding",
    "domain",
    "update",
    "samples",
    "updates",
    "epochs",
    "train_loss",
    "train_accuracy",
    "validation_loss",
    "entropy_nats",
    "ttr_last_96",
    "longest_overlap_mean",
    "minutes",
    "status",
    "reason",
)
ONLY_VARIED = ("variant", "model", "train_text", "decoding", "domain", "update")
MEASURED = ("ttr_last_96", "validation_loss", "entropy_nats", "longest_overlap_mean", "train_loss")
# of one launch only; an address may hold a password
_NOT_OF_THE_SWEEP = ("plan", "fresh", "storage", "tracking_uri", "num_cpus")
ARMS = ("truth", "original", "hyperfitted")


def parent_content(
    storage: Storage, sweep: Mapping[str, Any], children: Iterable[Content], *, finished: bool
) -> Content:
    """The run of the sweep: RUNNING until `finished`, then FAILED if a child is, KILLED if one is missing."""
    children = list(children)
    launches = sweep.get("launches") or [{}]
    begun, done = (milliseconds(time) for time in sweep_times(sweep))
    ended = done or max((child.ended or 0 for child in children), default=0)
    folder = storage.folder("sweeps", sweep["id"])
    files = {name: folder / name for name in REPORTS if (folder / name).is_file()}
    files |= {f"figures/{path.name}": path for path in sorted(folder.glob("figures/*.png"))}
    tags = {
        "rayfit.sweep_kind": sweep.get("sweep_kind"),
        "rayfit.question": sweep.get("question"),
        "rayfit.source": sweep.get("source"),
        "rayfit.launches": str(len(sweep.get("launches", []))),
        **made_by(launches[-1]),
    }
    options = {key: value for key, value in sweep.get("options", {}).items() if key not in _NOT_OF_THE_SWEEP}
    return Content(
        name=sweep["id"],
        status=_status(sweep, children) if finished else "RUNNING",
        started=begun or ended,
        ended=ended if finished else None,
        identity={"rayfit.sweep_id": sweep["id"]},
        tags={**as_tags(tags), "mlflow.note.content": note(sweep)},
        params=as_params(options),
        scores=tuple(_totals(sweep, children, ended)) if finished else (),
        files={**files, "launches.json": json.dumps(sweep.get("launches", []), indent=1)},
    )


def note(sweep: Mapping[str, Any]) -> str:
    """The question and the table, in Markdown, short enough for a tag: rows that do not fit are counted."""
    lines = [f"**{sweep.get('question') or sweep['id']}**", ""]
    if sweep.get("source"):
        lines += [f"Hyperfitting (arXiv 2412.04318), {sweep['source']}.", ""]
    lines += [f"`rayfit show {sweep['id']}`", ""]
    rows = sweep.get("rows", [])
    columns = [name for name in COLUMNS if any(row.get(name) is not None for row in rows)]
    # a column that says the same of every row is no help in so little space
    columns = [name for name in columns if name not in ONLY_VARIED or _varies(rows, name)]
    if columns:
        lines += [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
    for place, row in enumerate(rows):
        line = f"| {' | '.join(_cell(row, name) for name in columns)} |"
        if sum(map(len, lines)) + len(lines) + len(line) > MAX_TEXT - 100:
            lines += ["", f"and {len(rows) - place} more rows: see `summary.json` among the artifacts"]
            break
        lines.append(line)
    return "\n".join(lines)


def _status(sweep: Mapping[str, Any], children: list[Content]) -> str:
    statuses = {child.status for child in children}
    present = sum("rayfit.trial_id" in child.identity for child in children)
    if "FAILED" in statuses:
        return "FAILED"
    return "FINISHED" if statuses <= {"FINISHED"} and present == len(sweep.get("trials", [])) else "KILLED"


def _totals(sweep: Mapping[str, Any], children: list[Content], time: int) -> list[Point]:
    """Counts of trials, and by arm what is most compared: the range over the trials in the greedy rows."""
    trials = [child for child in children if "rayfit.trial_id" in child.identity]
    values: dict[str, Any] = {
        "trials/declared": len(sweep.get("trials", [])),
        "trials/finished": sum(child.status == "FINISHED" for child in trials),
        "trials/failed": sum(child.status == "FAILED" for child in trials),
        "trials/hyperfitted": sum(child.tags.get("rayfit.hyperfitted") == "true" for child in trials),
    }
    rows = sweep.get("rows", [])
    several_domains = _varies(rows, "domain")
    short = short_names(sweep)
    for row in rows:
        arm = row.get("arm")
        decoding = row.get("decoding") or PLAIN
        if arm not in ARMS or row.get("update") is not None or several_domains:
            continue
        of_a_trial = arm == "original" and row.get("trial_id") is not None
        if of_a_trial or short.get(decoding, decoding) != PLAIN:
            continue
        for name in MEASURED:
            number = as_number(row.get(name))
            if number is None:
                continue
            if arm != "hyperfitted":
                values[f"{arm}/{name}"] = number
                continue
            low, high = f"{arm}/{name}.min", f"{arm}/{name}.max"
            values |= {low: min(values.get(low, number), number), high: max(values.get(high, number), number)}
    return points(values, time, 0)


def _varies(rows: list[Mapping[str, Any]], name: str) -> bool:
    return len({row[name] for row in rows if row.get(name) is not None}) > 1


def _cell(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    # the reasons of the other arms are the same in every sweep, and wide
    if value is None or (name == "reason" and row.get("arm") != "hyperfitted"):
        return ""
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")
