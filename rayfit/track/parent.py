"""A sweep's parent run: the question, the table as a note, the report's files, totals to compare by."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rayfit.records.storage import Storage
from rayfit.report.rows import POOLED, rows_on_texts
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
from rayfit.track.names import Names
from rayfit.track.origin import made_by, sweep_times

REPORTS = (
    *("report.html", "plot.png", "table.txt", "summary.json", "scores.json"),
    *("results.csv", "results.parquet"),
)
FIGURES = "figures"
COLUMNS = (
    "who",
    "arm",
    "model",
    "train_text",
    "decoding",
    "domain",
    "samples",
    "updates",
    "epochs",
    "learning_rate",
    "batch_size",
    "adapter",
    "seed",
    "order_seed",
    "repeat",
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
# a column of these that says the same of every row is no help in so little space
ONLY_IF_TELLING = (
    *("model", "train_text", "decoding", "domain"),
    *("learning_rate", "batch_size", "adapter", "seed", "order_seed", "repeat"),
)
MEASURED = ("ttr_last_96", "validation_loss", "entropy_nats", "longest_overlap_mean", "train_loss")
# of one launch only; an address may hold a password
_NOT_OF_THE_SWEEP = ("plan", "fresh", "storage", "tracking_uri", "num_cpus")
WHO = ("truth", "original", "trained")


def parent_content(
    storage: Storage, sweep: Mapping[str, Any], children: Iterable[Content], *, finished: bool
) -> Content:
    """The run of the sweep: RUNNING until `finished`, then FAILED if a child is, KILLED if one is missing."""
    children = list(children)
    launches = sweep.get("launches") or [{}]
    begun, done = (milliseconds(time) for time in sweep_times(sweep))
    ended = done or max((child.ended or 0 for child in children), default=0)
    folder = storage.folder("sweeps", sweep["id"])
    files: dict[str, Path | str] = {name: folder / name for name in REPORTS if (folder / name).is_file()}
    files |= {f"{FIGURES}/{path.name}": path for path in sorted((folder / FIGURES).glob("*.png"))}
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
        files={**files, "launches.json": json.dumps(sweep.get("launches", []), indent=1, sort_keys=True)},
    )


def note(sweep: Mapping[str, Any]) -> str:
    """The question and the table, in Markdown, short enough for a tag: rows that do not fit are counted."""
    lines = [f"**{sweep.get('question') or sweep['id']}**", ""]
    if sweep.get("source"):
        lines += [f"Hyperfitting (arXiv 2412.04318), {sweep['source']}.", ""]
    lines += [f"`rayfit show {sweep['id']}`", ""]
    everything = sweep.get("rows", [])
    rows = [row for row in everything if row.get("update") is None]
    columns = [name for name in COLUMNS if any(row.get(name) is not None for row in rows)]
    columns = [name for name in columns if name not in ONLY_IF_TELLING or _varies(rows, name)]
    if columns:
        lines += [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
    for place, row in enumerate(rows):
        line = f"| {' | '.join(_cell(row, name) for name in columns)} |"
        if sum(map(len, lines)) + len(lines) + len(line) > MAX_TEXT - 100:
            lines += ["", f"and {len(rows) - place} more rows: see `summary.json` among the artifacts"]
            break
        lines.append(line)
    if len(rows) < len(everything):
        lines += [
            "",
            f"Of weights kept along training: {len(everything) - len(rows)} rows, as curves of the runs.",
        ]
    return "\n".join(lines)


def _status(sweep: Mapping[str, Any], children: list[Content]) -> str:
    statuses = {child.status for child in children}
    present = sum("rayfit.trial_id" in child.identity for child in children)
    if "FAILED" in statuses:
        return "FAILED"
    return "FINISHED" if statuses <= {"FINISHED"} and present == len(sweep.get("trials", [])) else "KILLED"


def _totals(sweep: Mapping[str, Any], children: list[Content], time: int) -> list[Point]:
    """Counts of trials, and of each what is most compared: the range over its greedy rows, one value where there is one."""
    trials = [child for child in children if "rayfit.trial_id" in child.identity]
    values: dict[str, Any] = {
        "trials/declared": len(sweep.get("trials", [])),
        "trials/finished": sum(child.status == "FINISHED" for child in trials),
        "trials/failed": sum(child.status == "FAILED" for child in trials),
        "trials/hyperfitted": sum(child.tags.get("rayfit.hyperfitted") == "true" for child in trials),
    }
    found: dict[tuple[str, str], list[float]] = {}
    for row in _greedy_rows(sweep):
        for name in MEASURED:
            if (number := as_number(row.get(name))) is not None:
                found.setdefault((row["who"], name), []).append(number)
    for (who, name), numbers in found.items():
        if who == "trained" or min(numbers) < max(numbers):
            values |= {f"{who}/{name}.min": min(numbers), f"{who}/{name}.max": max(numbers)}
        else:
            values[f"{who}/{name}"] = numbers[0]
    return points(values, time, 0)


def _greedy_rows(sweep: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The rows of final weights under plain greedy decoding, over all domains pooled where there are several."""
    names = Names(sweep)
    rows = [
        row
        for row in rows_on_texts(sweep.get("rows", []), sweep.get("prompts"))
        if row.get("who") in WHO and row.get("update") is None and names.is_plain(row.get("decoding"))
    ]
    if _varies(rows, "domain"):
        rows = [row for row in rows if row["domain"] == POOLED]
    return rows


def _varies(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    return len({row[name] for row in rows if row.get(name) is not None}) > 1


def _cell(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    # the reasons of the other arms are the same in every sweep, and wide
    if value is None or (name == "reason" and row.get("who") != "trained"):
        return ""
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")
