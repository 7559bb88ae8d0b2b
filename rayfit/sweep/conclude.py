"""The end of a sweep: table, plot, report and summary written, MLflow filled last."""

from __future__ import annotations

from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from rayfit.findings.results import flat_row, write_results
from rayfit.records.provenance import git_commit
from rayfit.records.storage import write_json
from rayfit.records.sweep import Row, SweepRecord
from rayfit.records.told import remember_told, told_of
from rayfit.report.figures import figures
from rayfit.report.html import write_report
from rayfit.report.plot import draw_plot, write_pictures
from rayfit.report.table import render_table
from rayfit.scores import SCORES
from rayfit.sweep.launch import Launch
from rayfit.sweep.record import ended_record, timed, write_record
from rayfit.track.connection import ui_address, ui_command
from rayfit.track.tracker import Tracker


def conclude(launch: Launch, record: SweepRecord, track: Tracker) -> int:
    """Write the sweep's files and record, fill MLflow, show the table; 1 if any row FAILED or MLflow could not be filled."""
    storage, console = launch.storage, launch.console
    console.close()
    record = ended_record(record, launch)
    folder = storage.folder("sweeps", record.id)
    table = render_table(record)
    write_record(record, storage)
    if not _is_reported(record, launch):
        _report(record, launch, table)
        remember_told(storage, record, report=_rayfit())
    launch.stopwatch.over("report")
    track.finish(record)
    launch.stopwatch.over("mlflow")
    write_record(timed(record, launch), storage)
    console.show(f"\n{record.question}\n\n{table}\n")
    console.show(f"report   {folder / 'report.html'}")
    console.show(f"summary  {folder / 'summary.json'}")
    console.show(f"MLflow   {ui_command(track.uri)}")
    if track.place:
        console.show(f"         then open {ui_address(track.uri)}/{track.place}")
    if track.note:
        console.show(f"\nMLflow is filled, but only at the end: {track.note}")
    if track.error:
        console.show(
            f"\nMLflow could not be filled ({track.error}). Nothing is lost: `rayfit sync` fills it from the records."
        )
    failed = bool(launch.errors) or any(row.status == "FAILED" for row in record.rows)
    return 1 if failed or track.error else 0


def _rayfit() -> str:
    return f"by rayfit {version('rayfit')}, {git_commit()}"


def _is_reported(record: SweepRecord, launch: Launch) -> bool:
    """Whether the report is of the sweep as it is now, because it was there and nothing was done since."""
    folder = launch.storage.folder("sweeps", record.id)
    is_there = all((folder / name).exists() for name in ("report.html", "plot.png", "summary.json"))
    return is_there and told_of(launch.storage, record).get("report") == _rayfit()


def _report(record: SweepRecord, launch: Launch, table: str) -> None:
    plan, storage = launch.plan, launch.storage
    folder = storage.folder("sweeps", record.id)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "table.txt").write_text(table + "\n")
    rows = [flat_row(row) for row in record.rows]
    write_json(folder / "summary.json", {"sweep": record.id, "question": record.question, "rows": rows})
    write_results(record.rows, folder)
    write_json(folder / "scores.json", _explained(record.rows))
    x, y = plan.sweep.plot
    models = ", ".join(model.name for model in plan.models)
    texts = ", ".join(domain.name for domain in plan.domains)
    title = f"{record.question}\n{models} on {texts}, scale {record.scale}"
    draw_plot(record.on_texts(), x, y, folder / "plot.png", title=title)
    drawn = figures(record, storage)
    write_report(record, storage, drawn)
    write_pictures(drawn, folder / "figures")


def _explained(rows: tuple[Row, ...]) -> dict[str, dict[str, Any]]:
    """Unit, direction, source and reading of every score that a row has, by the name it has everywhere."""
    names = {name for row in rows for name in row.scores}
    found = {name: asdict(score) for name, score in SCORES.items() if name in names}
    return {
        name: {key: value for key, value in entry.items() if key != "name"} for name, entry in found.items()
    }
