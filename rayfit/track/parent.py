"""A sweep's parent run: the question, the table as a note, the report's files, totals to compare by."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rayfit.columns import POOLED, TRAINED, names
from rayfit.records.storage import Storage
from rayfit.report.board import sweep_board
from rayfit.report.markdown import table_in_markdown
from rayfit.report.rows import rows_on_texts, value
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
# of one launch only; an address may hold a password
_NOT_OF_THE_SWEEP = ("plan", "fresh", "storage", "tracking_uri", "num_cpus")


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
    used = sum(map(len, lines)) + len(lines)
    table, left_out = table_in_markdown(
        sweep_board(sweep, only_final=True, with_paper=False), room=MAX_TEXT - 250 - used
    )
    lines.append(table)
    if left_out:
        lines += ["", f"and {left_out} more rows: see `summary.json` among the artifacts"]
    if kept := sum(value(row, "update") is not None for row in sweep.get("rows", [])):
        lines += ["", f"Of weights kept along training: {kept} rows, as curves of the runs."]
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
        for name in names(lambda each: each.role == "measured" and bool(each.always)):
            if (number := as_number(value(row, name))) is not None:
                found.setdefault((value(row, "who"), name), []).append(number)
    for (who, name), numbers in found.items():
        if who == TRAINED or min(numbers) < max(numbers):
            values |= {f"{who}/{name}.min": min(numbers), f"{who}/{name}.max": max(numbers)}
        else:
            values[f"{who}/{name}"] = numbers[0]
    return points(values, time, 0)


def _greedy_rows(sweep: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The rows of final weights under plain greedy decoding, over all domains pooled where there are several."""
    sweep_names = Names(sweep)
    rows = [
        row
        for row in rows_on_texts(sweep.get("rows", []), sweep.get("prompts"))
        if value(row, "update") is None and sweep_names.is_plain(value(row, "decoding"))
    ]
    if len({value(row, "domain") for row in rows} - {None}) > 1:
        rows = [row for row in rows if value(row, "domain") == POOLED]
    return rows
