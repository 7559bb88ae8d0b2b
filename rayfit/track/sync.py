"""Fill MLflow from the records of a sweep: as often as one likes, with the same runs every time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from rayfit.records.storage import Storage
from rayfit.report.board import wanted_columns
from rayfit.track.connection import TrackingError, default_tracking_uri, tracking_errors
from rayfit.track.content import CURRENT, Content
from rayfit.track.matching import current_run, has_failed, is_live, is_under_way, same_subject
from rayfit.track.measured import read_measurements
from rayfit.track.original import original_content, original_models
from rayfit.track.parent import parent_content
from rayfit.track.trial import trial_content
from rayfit.track.view import view_place, view_tag
from rayfit.track.writer import create_run, supersede, write_run

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run

EXPERIMENT_PREFIX = "rayfit/"
LOCK = "tracking.lock"


@dataclass(frozen=True, kw_only=True)
class SyncReport:
    """Where a sweep is in MLflow, and how many of its runs, parent counted, were made, changed, left."""

    experiment_id: str
    experiment_name: str
    parent_run_id: str
    created: int
    updated: int
    unchanged: int

    @property
    def place(self) -> str:
        """What follows the UI's address to compare the sweep's trials."""
        return view_place(self.experiment_id, self.parent_run_id)


def sync_sweep(
    storage: Storage, sweep_record: Mapping[str, Any], client: MlflowClient, *, finished: bool = False
) -> SyncReport:
    """Bring MLflow to what the records of a sweep say, one parent run and a child for each of its models.

    While a sweep runs, call it with as much of the record as there is; the parent stays RUNNING. `finished`
    says that the launch is over: the parent becomes FINISHED, or FAILED when a child is, or KILLED when
    something is missing.
    Raises TrackingError when MLflow cannot be reached or refuses; the records are untouched by that.
    """
    kind = sweep_record["sweep_kind"]
    # runs are made after looking whether they are there: two at once would both find nothing
    with FileLock(storage.root / LOCK), tracking_errors(client):
        experiment = _experiment(storage, client, f"{EXPERIMENT_PREFIX}{kind}")
        experiment_id = experiment.experiment_id
        children = _children(storage, sweep_record, finished=finished)
        content = parent_content(storage, sweep_record, children, finished=finished)
        found = _find_parent(client, [experiment_id], sweep_record["id"])
        parent = found or create_run(client, experiment_id, content)
        parent_id = parent.info.run_id
        runs = search(client, [experiment_id], f"tags.`mlflow.parentRunId` = '{parent_id}'")
        linked = _linked(client, sweep_record, children)
        outcomes = [_write_child(client, experiment_id, parent_id, runs, child) for child in linked]
        if finished:
            _end_what_was_cut_off(client, runs, children)
        tag, view = view_tag(parent_id, children, wanted_columns(sweep_record, with_paper=False))
        if experiment.tags.get(tag) != view:
            client.set_experiment_tag(experiment_id, tag, view)
        compare = f"[Compare the trials]({view_place(experiment_id, parent_id)})"
        changed = write_run(client, parent, _with_note(content, compare))
        outcomes.append("created" if found is None else "updated" if changed else "unchanged")
    return SyncReport(
        experiment_id=experiment_id,
        experiment_name=experiment.name,
        parent_run_id=parent_id,
        created=outcomes.count("created"),
        updated=outcomes.count("updated"),
        unchanged=outcomes.count("unchanged"),
    )


def _children(storage: Storage, sweep: Mapping[str, Any], *, finished: bool) -> list[Content]:
    """The original models first, then every trial that has come to something, in the sweep's order."""
    measurements = read_measurements(storage, sweep)
    children = [
        original_content(sweep, measurements, model, finished=finished) for model in original_models(sweep)
    ]
    for trial_id in sweep.get("trials", []):
        children.append(trial_content(storage, sweep, trial_id, measurements, finished=finished))
    return [child for child in children if child is not None]


def _write_child(
    client: MlflowClient, experiment_id: str, parent_id: str, runs: list[Run], content: Content
) -> str:
    """Write the child and mark those that stood in its place; what happened, as a word of the report.

    Failed tries are removed, not marked: a trial that failed, was tried again and failed has failed once.
    """
    same = same_subject(runs, content)
    current = current_run(client, same, content)
    is_new = current is None
    if current is None:
        current = create_run(client, experiment_id, content, parent_id)
    changed = write_run(client, current, replace(content, tags={**content.tags, CURRENT: "true"}))
    for run in same:
        if run.info.run_id == current.info.run_id or is_under_way(run, content):
            continue
        if has_failed(run):
            client.delete_run(run.info.run_id)
            changed = True
        else:
            changed |= supersede(client, run, current.info.run_id)
    return "created" if is_new else "updated" if changed else "unchanged"


def _end_what_was_cut_off(client: MlflowClient, runs: list[Run], children: list[Content]) -> None:
    """Runs of trials that were being trained when the launch ended, and that came to nothing."""
    of_trials = {child.identity.get("rayfit.trial_id"): child for child in children}
    for run in runs:
        content = of_trials.get(run.data.tags.get("rayfit.trial_id"))
        if is_live(run) and (content is None or is_under_way(run, content)):
            client.set_terminated(run.info.run_id, status="KILLED")


def _linked(client: MlflowClient, sweep: Mapping[str, Any], children: list[Content]) -> list[Content]:
    """The children, those whose trial another sweep trained first with a link to that sweep's run."""
    first = sweep.get("first_trained_by", {})
    origin = {child.identity.get("rayfit.trial_id"): child for child in children}
    sweeps = {first[trial_id] for trial_id in origin if first.get(trial_id, sweep["id"]) != sweep["id"]}
    if not sweeps:
        return children
    experiments = client.search_experiments(filter_string=f"name LIKE '{EXPERIMENT_PREFIX}%'")
    ids = [experiment.experiment_id for experiment in experiments]
    parents = {sweep_id: _find_parent(client, ids, sweep_id) for sweep_id in sweeps}
    return [
        _with_link(child, first.get(child.identity.get("rayfit.trial_id")), parents) for child in children
    ]


def _with_link(child: Content, first: str | None, parents: Mapping[str, Run | None]) -> Content:
    if first is None or first not in parents:
        return child
    tags = {"rayfit.first_trained_by": first}
    told = f"`{first}`"
    if (parent := parents[first]) is not None:
        tags["rayfit.first_trained_by_run"] = parent.info.run_id
        told = f"[{first}](#/experiments/{parent.info.experiment_id}/runs/{parent.info.run_id})"
    return _with_note(replace(child, tags={**child.tags, **tags}), f"Trained first by {told}.")


def _with_note(content: Content, line: str) -> Content:
    """The content with a line before its note, where MLflow shows it without a click."""
    note = f"{line}\n\n{content.tags.get('mlflow.note.content', '')}"
    return replace(content, tags={**content.tags, "mlflow.note.content": note})


def _experiment(storage: Storage, client: MlflowClient, name: str) -> Experiment:
    """The experiment, made when it is not there."""
    is_file = client.tracking_uri.startswith("sqlite:")
    # a server decides itself where artifacts go
    place = (storage.root / "mlartifacts").as_uri() if is_file else None
    found = client.get_experiment_by_name(name)
    if found is None:
        # said here, MLflow's interface need not guess it from what the runs hold
        tags = {"mlflow.experimentKind": "custom_model_development"}
        return client.get_experiment(client.create_experiment(name, artifact_location=place, tags=tags))
    if found.lifecycle_stage != "active":
        raise TrackingError(
            f"MLflow: the experiment {name} was deleted; bring it back with `mlflow experiments restore "
            f"--experiment-id {found.experiment_id}`, or remove it for good with `mlflow gc`"
        )
    if client.tracking_uri == default_tracking_uri(storage) and found.artifact_location != place:
        raise TrackingError(
            f"MLflow: {storage.root / 'mlflow.db'} was filled when its storage was elsewhere "
            f"({found.artifact_location}); move that file away, "
            "and `rayfit sync` fills a new one from the records"
        )
    return found


def _find_parent(client: MlflowClient, experiment_ids: list[str], sweep_id: str) -> Run | None:
    runs = search(client, experiment_ids, f"tags.`rayfit.sweep_id` = '{sweep_id}'")
    return runs[0] if runs else None


def search(client: MlflowClient, experiment_ids: list[str], query: str) -> list[Run]:
    """All runs that match, oldest first."""
    found: list[Run] = []
    token = None
    while True:
        page = client.search_runs(
            experiment_ids, query, order_by=["attributes.start_time ASC"], page_token=token
        )
        found += page
        token = page.token
        if not token:
            return found
