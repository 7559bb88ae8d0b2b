"""The end of a sweep: rows joined from records, table, plot and summary written, MLflow filled last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rayfit.columns import ORIGINAL, TRAINED
from rayfit.config import Options
from rayfit.errors import RayfitError
from rayfit.plan.contexts import Contexts, HeldOut
from rayfit.plan.evaluations import EvaluationSpec
from rayfit.plan.planning import Plan
from rayfit.records.provenance import git_commit, now
from rayfit.records.storage import Storage, write_json
from rayfit.records.trials import read_failure
from rayfit.report.figures import figures
from rayfit.report.html import write_report
from rayfit.report.plot import draw_plot, write_pictures
from rayfit.report.results import write_results
from rayfit.report.rows import Row, rows_on_texts, sweep_rows
from rayfit.report.table import render_table
from rayfit.report.together import agreement, differences, pooled_rows
from rayfit.score.registry import SCORES
from rayfit.sweep.launch import Launch
from rayfit.track.connection import connect, default_tracking_uri, ui_address, ui_command, without_password
from rayfit.track.live import LiveCurves
from rayfit.track.sync import sync_sweep


class Tracker:
    """The sweep's one connection to MLflow. What cannot be sent is said, never lost: records hold everything."""

    def __init__(self, storage: Storage, uri: str) -> None:
        """Raises RayfitError when the tracking server cannot be used, so that this is known before training."""
        self.uri = uri
        self._storage = storage
        self._client = connect(uri, storage)
        self._live = LiveCurves(storage, self._client)
        self.error = self.place = ""

    def start(self, launch: Launch) -> None:
        """Begin to send the curves of the trials that `see` shows, every few seconds from a thread of its own."""
        self._live.start(sweep_record(launch, finished=False))

    def see(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        """Take the trial queue's state; nothing is sent here."""
        self._live.see(state)

    def update(self, launch: Launch) -> None:
        """Send what is there by now, while the sweep runs."""
        self._send(sweep_record(launch, finished=False), finished=False)

    def finish(self, record: dict[str, Any]) -> None:
        """Send everything, the report's files with it."""
        self._live.close()
        self._send(record, finished=True)

    def _send(self, record: dict[str, Any], *, finished: bool) -> None:
        try:
            self.place = sync_sweep(self._storage, record, self._client, finished=finished).place
            self.error = ""
        except RayfitError as error:
            self.error = str(error).splitlines()[0]


def tracker(storage: Storage, options: Options) -> Tracker:
    """The connection that the options name; a SQLite file in the storage by default."""
    return Tracker(storage, options.tracking_uri or default_tracking_uri(storage))


def sweep_record(launch: Launch, *, finished: bool) -> dict[str, Any]:
    """The sweep's record with this launch in it."""
    plan, storage = launch.plan, launch.storage
    old = storage.read("sweeps", plan.sweep_id) or {}
    this_launch = {
        "started_at": launch.started_at,
        "finished_at": now() if finished else None,
        "command": launch.command,
        "reused": len(plan.unique_trials) - len(launch.trials),
        "ran": len(launch.trials),
        "git_commit": git_commit(),
    }
    launches = [past for past in old.get("launches", []) if past["started_at"] != launch.started_at]
    ids = [str(trial.id) for trial in plan.unique_trials]
    failed = {key: failure["error"] for key in ids if (failure := _current_failure(storage, key)) is not None}
    rows = sweep_rows(plan, storage, launch.errors, launch.trial_errors)
    prompts = _prompts(plan)
    return {
        "kind": "sweep",
        "id": plan.sweep_id,
        "sweep_kind": plan.sweep.kind,
        "question": plan.sweep.question,
        "source": plan.sweep.source,
        "scale": plan.options.scale,
        "options": _plain_options(plan.options),
        "trials": ids,
        "failed": failed,
        "failed_measurements": dict(launch.errors),
        "arms": _arms(plan),
        "evaluations": [_evaluation_entry(spec) for spec in plan.evaluations],
        "comparisons": [
            {"trial_id": spec.trial.id, "comparison_id": spec.id, "domain": spec.domain.name}
            for spec in plan.comparisons
        ],
        "uses": _uses(plan),
        "figures": [dict(figure) for figure in plan.sweep.figures],
        "scores": list(plan.sweep.scores),
        "alone": _alone(plan),
        "launches": [*launches, this_launch],
        "prompts": prompts,
        "rows": [*rows, *pooled_rows(rows_on_texts(rows, prompts), storage)],
        "differences": differences(rows, storage) if finished else [],
        "agreement": agreement(rows, storage) if finished else None,
        "first_trained_by": _first_trained_by(storage, plan.sweep_id, ids),
        "tracking_uri": without_password(plan.options.tracking_uri or default_tracking_uri(storage)),
    }


def _prompts(plan: Plan) -> dict[str, Any] | None:
    """Which rows are on prompts: those whose domain is `name`."""
    if plan.prompts is None:
        return None
    return {
        "name": plan.prompts.name,
        "count": len(plan.prompts.texts),
        "sha256": plan.prompts.sha256,
    }


def _alone(plan: Plan) -> dict[str, str]:
    """Options of which this launch has one value where the sweep itself, at this scale, compares several."""
    declared = plan.sweep.scales[str(plan.options.scale)]
    names = {"model": plan.models[0].name, "dataset": plan.domains[0].name}
    found = {}
    for axis in plan.sweep.varies:
        values, given = declared.get(axis), getattr(plan.options, axis)
        if isinstance(values, tuple) and len(values) > 1 and given is not None and len(given) == 1:
            found[axis] = names.get(axis, str(given[0]))
    return found


def _arms(plan: Plan) -> dict[str, list[str]]:
    """The trials of each declared arm; empty where the sweep has no arms of its own."""
    arms: dict[str, list[str]] = {}
    for trial in plan.trials if plan.sweep.has_arms else ():
        arms.setdefault(trial.arm, []).append(str(trial.id))
    return arms


def _uses(plan: Plan) -> dict[str, list[str]]:
    """Ids of the made models, cut texts and rows that the sweep stands on."""
    contexts: list[Contexts] = [each for domain in plan.all_domains for each in plan.held_out(domain)]
    if plan.prompts is not None:
        contexts.append(plan.prompts)
    continued = [plan.evaluation.rows_id(each, model) for model in plan.models for each in contexts]
    return {
        "models": [model.made_id for model in plan.models if model.kind == "made"],
        "texts": [domain.spans_id for domain in plan.all_domains],
        "rows": sorted({*continued, *(trial.rows_id for trial in plan.unique_trials)}),
    }


def _evaluation_entry(spec: EvaluationSpec) -> dict[str, Any]:
    trial = spec.subject.trial
    entry: dict[str, Any] = {
        "who": ORIGINAL if trial is None else TRAINED,
        "model": spec.subject.model.name,
        "trial_id": None if trial is None else trial.id,
        "update": spec.subject.update,
        "evaluation_id": spec.id,
        "predictions_id": None if spec.predictions is None else spec.predictions.id,
        "decoding": spec.decoding.name,
        "domain": spec.contexts.name,
    }
    if spec.matched_to is not None:
        entry["matched_to"] = spec.matched_to.id
    if isinstance(spec.contexts, HeldOut) and spec.contexts.further:
        entry["further"] = spec.contexts.further
    return entry


def _explained(rows: list[Row]) -> dict[str, dict[str, str]]:
    """Unit, direction, source and reading of every score that a row has, by the name it has everywhere."""
    names = {name for row in rows for name in row}
    shown = ("unit", "direction", "source", "reading")
    return {
        name: {key: getattr(score, key) for key in shown} for name, score in SCORES.items() if name in names
    }


def _current_failure(storage: Storage, trial_id: str) -> dict[str, Any] | None:
    """Why a trial failed, unless it was finished since."""
    failure, record = read_failure(storage, trial_id), storage.read("trials", trial_id)
    finished_since = failure and record and record["finished_at"] > failure["failed_at"]
    return None if finished_since else failure


def _plain_options(options: Options) -> dict[str, Any]:
    plain = {
        name: list(value) if isinstance(value, tuple) else value for name, value in asdict(options).items()
    }
    return {**plain, "tracking_uri": without_password(options.tracking_uri) if options.tracking_uri else None}


def _first_trained_by(storage: Storage, sweep_id: str, trial_ids: list[str]) -> dict[str, str]:
    """The sweep that trained each trial first, where that was another one."""
    first = {}
    for trial_id in trial_ids:
        record = storage.read("trials", trial_id)
        if record is not None and record.get("sweep_id", sweep_id) != sweep_id:
            first[trial_id] = record["sweep_id"]
    return first


def conclude(launch: Launch, track: Any) -> int:
    """Write the sweep's files and record, fill MLflow, show the table; 1 if any row FAILED or MLflow could not be filled."""
    plan, storage, console = launch.plan, launch.storage, launch.console
    console.close()
    record = sweep_record(launch, finished=True)
    rows: list[Row] = record["rows"]
    folder = storage.folder("sweeps", plan.sweep_id)
    folder.mkdir(parents=True, exist_ok=True)
    table = render_table(record)
    (folder / "table.txt").write_text(table + "\n")
    write_json(
        folder / "summary.json", {"sweep": plan.sweep_id, "question": plan.sweep.question, "rows": rows}
    )
    write_results(rows, folder)
    write_json(folder / "scores.json", _explained(rows))
    x, y = plan.sweep.plot
    models = ", ".join(model.name for model in plan.models)
    texts = ", ".join(domain.name for domain in plan.domains)
    title = f"{plan.sweep.question}\n{models} on {texts}, scale {plan.options.scale}"
    draw_plot(rows_on_texts(rows, record["prompts"]), x, y, folder / "plot.png", title=title)
    storage.write("sweeps", plan.sweep_id, record)
    write_report(record, storage)
    write_pictures(figures(record, storage), folder / "figures")
    track.finish(record)
    console.show(f"\n{plan.sweep.question}\n\n{table}\n")
    console.show(f"report   {folder / 'report.html'}")
    console.show(f"summary  {folder / 'summary.json'}")
    console.show(f"MLflow   {ui_command(track.uri)}")
    if track.place:
        console.show(f"         then open {ui_address(track.uri)}/{track.place}")
    if track.error:
        console.show(
            f"\nMLflow could not be filled ({track.error}). Nothing is lost: `rayfit sync` fills it from the records."
        )
    failed = bool(launch.errors) or any(row["status"] == "FAILED" for row in rows)
    return 1 if failed or track.error else 0
