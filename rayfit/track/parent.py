"""A sweep's own run: the question, the table as a note, the report's files, totals to compare sweeps by."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import msgspec

from rayfit.columns import POOLED, TRAINED, names
from rayfit.findings.labels import varies
from rayfit.records.codec import dumps
from rayfit.records.storage import SWEEPS, Storage
from rayfit.records.sweep import Row, SweepRecord
from rayfit.report.board import sweep_board
from rayfit.report.markdown import table_in_markdown
from rayfit.track.content import (
    MAX_TEXT,
    NOTE,
    Content,
    Point,
    Told,
    as_number,
    as_params,
    as_tags,
    milliseconds,
    points,
)
from rayfit.track.index import SweepIndex
from rayfit.track.runs import made_by
from rayfit.track.scores import Names

SWEEP = "rayfit.sweep_id"
_REPORTS = (
    *("report.html", "plot.png", "table.txt", "summary.json", "scores.json"),
    *("results.csv", "results.parquet"),
)
_FIGURES = "figures"
# Characters of the note for the link that is put before it, and for what is said below its table.
_BESIDE_THE_TABLE = 250
# Of one launch only; and an address may hold a password.
_NOT_OF_THE_SWEEP = ("plan", "fresh", "storage", "tracking_uri", "num_cpus")


def parent_content(storage: Storage, sweep: SweepIndex, told: Collection[Told], *, finished: bool) -> Content:
    """The run of the sweep: RUNNING until `finished`, then FAILED if a child is, KILLED if one is missing.

    `told`: of its children. A launch that was killed has no end of its own, so its run ends with the last child's.
    """
    record = sweep.record
    first, last = record.launches[0], record.launches[-1]
    begun = milliseconds(first.started_at) or 0
    ended = milliseconds(last.finished_at) or max((child.ended or begun for child in told), default=begun)
    folder = storage.folder(SWEEPS, record.id)
    files: dict[str, Path | str] = {name: folder / name for name in _REPORTS if (folder / name).is_file()}
    files |= {f"{_FIGURES}/{path.name}": path for path in sorted((folder / _FIGURES).glob("*.png"))}
    tags = {
        "rayfit.sweep_kind": record.sweep_kind,
        "rayfit.question": record.question,
        "rayfit.source": record.source,
        "rayfit.launches": str(len(record.launches)),
        **made_by(last.command, last.git_commit),
    }
    options = {name: value for name, value in record.options.items() if name not in _NOT_OF_THE_SWEEP}
    launches = [msgspec.to_builtins(launch) for launch in record.launches]
    return Content(
        name=record.id,
        status=_status(record, told) if finished else "RUNNING",
        started=begun,
        ended=ended if finished else None,
        identity={SWEEP: record.id},
        tags={**as_tags(tags), NOTE: note(msgspec.structs.replace(record, rows=tuple(sweep.rows)))},
        params=as_params(options),
        scores=tuple(_totals(sweep, told, ended)) if finished else (),
        files={**files, "launches.json": dumps(launches)},
    )


def note(record: SweepRecord) -> str:
    """The question and the table, in Markdown, short enough for a tag: rows that do not fit are counted."""
    lines = [f"**{record.question or record.id}**", ""]
    if record.source:
        lines += [f"Hyperfitting (arXiv 2412.04318), {record.source}.", ""]
    lines += [f"`rayfit show {record.id}`", ""]
    room = MAX_TEXT - _BESIDE_THE_TABLE - sum(map(len, lines)) - len(lines)
    table, left_out = table_in_markdown(sweep_board(record, only_final=True, with_paper=False), room=room)
    lines.append(table)
    if left_out:
        lines += ["", f"and {left_out} more rows: see `summary.json` among the artifacts"]
    if kept := sum(row.update is not None for row in record.rows):
        lines += ["", f"Of weights kept along training: {kept} rows, as curves of the runs."]
    return "\n".join(lines)


def totals_of_rows(sweep_names: Names, rows: Sequence[Row]) -> dict[str, float]:
    """What is most compared, by whose texts: the range over a sweep's greedy rows, one value where there is only one."""
    found: dict[tuple[str, str], list[float]] = {}
    compared = names(lambda each: each.role == "measured" and bool(each.always))
    for row in _greedy_rows(sweep_names, rows):
        for name in compared:
            if (number := as_number(row.value(name))) is not None:
                found.setdefault((row.who, name), []).append(number)
    values: dict[str, float] = {}
    for (who, name), numbers in found.items():
        if who == TRAINED or min(numbers) < max(numbers):
            values |= {f"{who}/{name}.min": min(numbers), f"{who}/{name}.max": max(numbers)}
        else:
            values[f"{who}/{name}"] = numbers[0]
    return values


def _status(record: SweepRecord, told: Collection[Told]) -> str:
    statuses = {child.status for child in told}
    if "FAILED" in statuses:
        return "FAILED"
    is_whole = sum(child.is_trial for child in told) == len(record.trials)
    return "FINISHED" if statuses <= {"FINISHED"} and is_whole else "KILLED"


def _totals(sweep: SweepIndex, told: Collection[Told], time: int) -> list[Point]:
    """Counts of trials, and what sweeps are compared by."""
    trials = [child for child in told if child.is_trial]
    counts = {
        "trials/declared": len(sweep.record.trials),
        "trials/finished": sum(child.status == "FINISHED" for child in trials),
        "trials/failed": sum(child.status == "FAILED" for child in trials),
        "trials/hyperfitted": sum(child.is_hyperfitted for child in trials),
    }
    on_texts = [row for row in sweep.rows if not sweep.names.is_of_prompts(row.domain)]
    return points(counts | totals_of_rows(sweep.names, on_texts), time, 0)


def _greedy_rows(sweep_names: Names, rows: Sequence[Row]) -> list[Row]:
    """The rows of final weights under plain greedy decoding, over all domains pooled where there are several."""
    found = [row for row in rows if row.update is None and sweep_names.is_plain(row.decoding)]
    if varies(found, "domain"):
        return [row for row in found if row.domain == POOLED]
    return found
