"""Fill MLflow from the records of a sweep: as often as one likes, with the same runs every time."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from filelock import FileLock

from rayfit.records.storage import Storage
from rayfit.records.sweep import SweepRecord
from rayfit.track.connection import TrackingError, default_tracking_uri, tracking_errors
from rayfit.track.content import CURRENT, MODEL, NOTE, TRIAL, Content, Told
from rayfit.track.index import SweepIndex
from rayfit.track.matching import by_child, current_run, has_failed, is_live, is_under_way
from rayfit.track.parent import SWEEP, parent_content
from rayfit.track.runs import original_content, trial_content
from rayfit.track.view import view_place, view_tag
from rayfit.track.writer import create_run, supersede, write_run

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run

EXPERIMENT_PREFIX = "rayfit/"
LOCK = "tracking.lock"

Outcome = Literal["created", "updated", "unchanged"]


@dataclass(frozen=True, kw_only=True)
class SyncReport:
    """Where a sweep is in MLflow, and how many of its runs, parent counted, were made, changed, left."""

    experiment_id: str
    parent_run_id: str
    created: int
    updated: int
    unchanged: int

    @property
    def place(self) -> str:
        """What follows the UI's address to compare the sweep's trials."""
        return view_place(self.experiment_id, self.parent_run_id)


def sync_sweep(
    storage: Storage, record: SweepRecord, client: MlflowClient, *, finished: bool = False
) -> SyncReport:
    """Bring MLflow to what the records of a sweep say, one parent run and a child for each of its models.

    While a sweep runs the parent stays RUNNING. `finished` says that the launch is over, by itself or because it was
    killed, and that the record's rows are as they are now: the parent becomes FINISHED, or FAILED when a child is, or
    KILLED when something is missing.
    Raises TrackingError when MLflow cannot be reached or refuses, RayfitError for a record that cannot be read; the
    records are untouched by either.
    """
    return SweepSync(storage, client, record).write(finished=finished)


class SweepSync:
    """One sweep in MLflow: first all of it, then what changed, where only that is read and written again.

    What it keeps of a child is little, so that a sweep may have thousands.
    """

    def __init__(self, storage: Storage, client: MlflowClient, record: SweepRecord) -> None:
        """`record`: what the sweep declares, which later records of it do not change."""
        self.index = SweepIndex(record, storage)
        self._storage, self._client = storage, client
        self._told: dict[str, Told] = {}

    def write(
        self,
        record: SweepRecord | None = None,
        changed: Collection[str | None] | None = None,
        *,
        finished: bool = False,
    ) -> SyncReport:
        """Bring children and their parent to what the records say: all, or those of the `changed` trials.

        None among `changed` stands for the original models. `record`: the sweep's, with what failed by now. Raises as
        `sync_sweep`.
        """
        self.index.record = record or self.index.record
        children = self._children(changed)
        client = self._client
        # Runs are made after looking whether they are there: two processes at once would both find nothing.
        with FileLock(self._storage.root / LOCK), tracking_errors(client):
            if not (finished or self.index.record.is_over):
                self.index.refresh(children)
            experiment = self._experiment()
            parent, is_new = self._parent(experiment.experiment_id)
            runs = by_child(self._runs(parent, None if changed is None else children))
            links = self._links(children)
            outcomes: list[Outcome] = []
            for child in children:
                content = self._content(child, finished=finished)
                own = runs.get(child, [])
                if content is not None:
                    self._told[child] = content.told
                    outcomes.append(_write_child(client, parent, own, _linked(content, links.get(child))))
                if finished:
                    _end_what_was_cut_off(client, own, content)
            outcomes.append(self._write_parent(experiment, parent, is_new=is_new, finished=finished))
        return SyncReport(
            experiment_id=experiment.experiment_id,
            parent_run_id=parent.info.run_id,
            created=outcomes.count("created"),
            updated=outcomes.count("updated"),
            unchanged=outcomes.count("unchanged"),
        )

    def _children(self, changed: Collection[str | None] | None) -> list[str]:
        """The original models first, then the trials in the sweep's order."""
        trials = self.index.record.trials
        if changed is None:
            return [*self.index.models, *trials]
        models = self.index.models if None in changed else []
        return [*models, *(trial_id for trial_id in changed if trial_id is not None)]

    def _content(self, child: str, *, finished: bool) -> Content | None:
        if child in self.index.models:
            return original_content(self._storage, self.index, child, finished=finished)
        return trial_content(self._storage, self.index, child, finished=finished)

    def _parent(self, experiment_id: str) -> tuple[Run, bool]:
        """The sweep's own run, and whether it was made just now."""
        found = _find_parent(self._client, [experiment_id], self.index.record.id)
        if found is not None:
            return found, False
        begun = parent_content(self._storage, self.index, [], finished=False)
        return create_run(self._client, experiment_id, begun), True

    def _write_parent(self, experiment: Experiment, parent: Run, *, is_new: bool, finished: bool) -> Outcome:
        """The sweep's own run and the view of its children, once they are written."""
        record, parent_id = self.index.record, parent.info.run_id
        told = self._told.values()
        measured = {name for child in told for name in child.metrics}
        tag, view = view_tag(parent_id, record, self.index.rows, measured)
        if experiment.tags.get(tag) != view:
            self._client.set_experiment_tag(experiment.experiment_id, tag, view)
        content = parent_content(self._storage, self.index, told, finished=finished)
        compare = f"[Compare the trials]({view_place(experiment.experiment_id, parent_id)})"
        changed = write_run(self._client, parent, _with_note(content, compare))
        return "created" if is_new else "updated" if changed else "unchanged"

    def _runs(self, parent: Run, children: list[str] | None) -> list[Run]:
        """The runs under the parent: all at once, or one look for each of a few children."""
        ids, under = [parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
        if children is None:
            return search(self._client, ids, under)
        tags = {child: MODEL if child in self.index.models else TRIAL for child in children}
        return [
            run
            for child, tag in tags.items()
            for run in search(self._client, ids, f"{under} and tags.`{tag}` = '{child}'")
        ]

    def _links(self, children: list[str]) -> dict[str, tuple[str, Run | None]]:
        """By trial that another sweep trained first, that sweep and its run, where MLflow has it."""
        record = self.index.record
        first = {child: record.first_trained_by.get(child, record.id) for child in children}
        sweeps = {sweep for sweep in first.values() if sweep != record.id}
        if not sweeps:
            return {}
        experiments = self._client.search_experiments(filter_string=f"name LIKE '{EXPERIMENT_PREFIX}%'")
        ids = [experiment.experiment_id for experiment in experiments]
        parents = {sweep: _find_parent(self._client, ids, sweep) for sweep in sweeps}
        return {child: (sweep, parents[sweep]) for child, sweep in first.items() if sweep in parents}

    def _experiment(self) -> Experiment:
        """The experiment of the sweep's kind, made when it is not there."""
        client, storage = self._client, self._storage
        name = f"{EXPERIMENT_PREFIX}{self.index.record.sweep_kind}"
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


def _write_child(client: MlflowClient, parent: Run, same: list[Run], content: Content) -> Outcome:
    """Write the child and mark those that stood in its place; what happened, as a word of the report.

    Failed tries are removed, not marked: a trial that failed, was tried again and failed has failed once.
    """
    current = current_run(client, same, content)
    is_new = current is None
    if current is None:
        current = create_run(client, parent.info.experiment_id, content, parent.info.run_id)
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


def _end_what_was_cut_off(client: MlflowClient, own: list[Run], content: Content | None) -> None:
    """Runs of a trial that was being trained when the launch ended, and that came to nothing."""
    for run in own:
        if is_live(run) and (content is None or is_under_way(run, content)):
            client.set_terminated(run.info.run_id, status="KILLED")


def _linked(content: Content, link: tuple[str, Run | None] | None) -> Content:
    """The content of a trial that another sweep trained first, with a link to that sweep's run."""
    if link is None:
        return content
    first, parent = link
    tags = {"rayfit.first_trained_by": first}
    told = f"`{first}`"
    if parent is not None:
        tags["rayfit.first_trained_by_run"] = parent.info.run_id
        told = f"[{first}](#/experiments/{parent.info.experiment_id}/runs/{parent.info.run_id})"
    return _with_note(replace(content, tags={**content.tags, **tags}), f"Trained first by {told}.")


def _with_note(content: Content, line: str) -> Content:
    """The content with a line before its note, where MLflow shows it without a click."""
    note = f"{line}\n\n{content.tags.get(NOTE, '')}"
    return replace(content, tags={**content.tags, NOTE: note})


def _find_parent(client: MlflowClient, experiment_ids: list[str], sweep_id: str) -> Run | None:
    runs = search(client, experiment_ids, f"tags.`{SWEEP}` = '{sweep_id}'")
    return runs[0] if runs else None


def search(client: MlflowClient, experiment_ids: list[str], query: str) -> list[Run]:
    """All runs that match, oldest first, however many pages MLflow gives them on."""
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
