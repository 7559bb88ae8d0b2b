"""The curves of trials that are being trained, in MLflow while training goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from rayfit.columns import TRAINED, column
from rayfit.records.storage import Storage
from rayfit.records.trials import read_failure
from rayfit.track.connection import TrackingError, tracking_errors
from rayfit.track.content import CURRENT, LIVE_SINCE, Content, Point, as_number, as_tags, milliseconds
from rayfit.track.curve import measured_points
from rayfit.track.declared import declared_in_rows
from rayfit.track.matching import was_given_up
from rayfit.track.summary import arms_of
from rayfit.track.sync import LOCK, SyncReport, search, sync_sweep
from rayfit.track.writer import create_run, log_metrics, supersede, write_params

if TYPE_CHECKING:
    from mlflow import MlflowClient

EVERY_SECONDS = 5.0


@dataclass
class _Training:
    """One try at training a trial. `since`: when it began, in milliseconds since 1970."""

    tries: int
    since: int
    last_update: int = -1
    run_id: str = ""
    waiting: list[Point] = field(default_factory=list)


class LiveCurves:
    """Points of running trials, kept as they are seen and sent every few seconds by a thread of its own.

    What it writes is the beginning of what a later sync writes, to the millisecond, so that nothing stands twice.
    `error`: why the last attempt to send failed, or empty; the points are kept, and a sync sends them in any case.
    """

    def __init__(
        self, storage: Storage, client: MlflowClient, *, every_seconds: float = EVERY_SECONDS
    ) -> None:
        self._storage, self._client, self._every = storage, client, every_seconds
        self._record: Mapping[str, Any] = {}
        self._report: SyncReport | None = None
        self._trainings: dict[str, _Training] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self.error = ""

    def start(self, sweep_record: Mapping[str, Any]) -> None:
        """Begin to send; the record says what the sweep's trials are, whose own records are not written yet."""
        self._record = sweep_record
        self._thread = threading.Thread(target=self._send_now_and_then, name="live curves", daemon=True)
        self._thread.start()

    def see(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        """Take what is new in the queue's state: by trial id, `status`, `tries` and `last_point`. Calls nothing."""
        with self._lock:
            for trial_id, trial in state.items():
                if trial["status"] != "running":
                    # its record, or its failure, has everything from now on
                    self._trainings.pop(trial_id, None)
                elif trial["last_point"]:
                    self._take(trial_id, trial["tries"], trial["last_point"])

    def close(self) -> None:
        """Send nothing more; what waits is left to the sync that follows."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join()

    def _take(self, trial_id: str, tries: int, point: Mapping[str, Any]) -> None:
        training = self._trainings.get(trial_id)
        if training is None or training.tries != tries:
            since = round(1000 * (time.time() - (as_number(point.get("seconds")) or 0.0)))
            training = self._trainings[trial_id] = _Training(tries, since)
        if point["update"] > training.last_update:
            training.last_update = point["update"]
            training.waiting += measured_points(point, training.since)

    def _send_now_and_then(self) -> None:
        while not self._closing.wait(self._every):
            try:
                self.send()
                self.error = ""
            except TrackingError as error:
                self.error = str(error).splitlines()[0]

    def send(self) -> None:
        """Write what waits: one call for each trial that runs, and the run of one that has none yet.

        Raises TrackingError when MLflow cannot be reached or refuses; then the points wait for the next time.
        """
        with self._lock:
            waiting = {key: list(found.waiting) for key, found in self._trainings.items() if found.waiting}
            trainings = {key: self._trainings[key] for key in waiting}
        if not waiting:
            return
        if self._report is None:
            self._report = sync_sweep(self._storage, self._record, self._client)
        with FileLock(self._storage.root / LOCK), tracking_errors(self._client):
            for trial_id, training in trainings.items():
                if not training.run_id and not self._has_ended(trial_id, training):
                    training.run_id = self._create(trial_id, training, self._report)
                if training.run_id:
                    log_metrics(self._client, training.run_id, waiting[trial_id])
                with self._lock:
                    del training.waiting[: len(waiting[trial_id])]

    def _has_ended(self, trial_id: str, training: _Training) -> bool:
        """Whether it ended between seeing and sending; a sync may have made its run already."""
        record = self._storage.read("trials", trial_id) or {}
        failure = read_failure(self._storage, trial_id) or {}
        ends = (milliseconds(record.get("finished_at")), milliseconds(failure.get("failed_at")))
        return any(end is not None and end > training.since for end in ends)

    def _create(self, trial_id: str, training: _Training, sweep: SyncReport) -> str:
        before = self._storage.read("trials", trial_id)
        fresh = bool(self._record.get("options", {}).get("fresh"))
        edition = 1 if before is None else before.get("edition", 1) + fresh
        tags = {"rayfit.who": TRAINED, column("arm").tag: arms_of(self._record, trial_id)}
        content = Content(
            name=trial_id.rpartition("-")[0],
            status="RUNNING",
            started=training.since,
            ended=None,
            identity={"rayfit.trial_id": trial_id, "rayfit.edition": str(edition)},
            tags={**as_tags(tags), LIVE_SINCE: str(training.since), CURRENT: "true"},
            params=declared_in_rows(self._record, trial_id),
        )
        query = (
            f"tags.`mlflow.parentRunId` = '{sweep.parent_run_id}' and tags.`rayfit.trial_id` = '{trial_id}'"
        )
        earlier = [run for run in search(self._client, [sweep.experiment_id], query) if was_given_up(run)]
        run = create_run(self._client, sweep.experiment_id, content, sweep.parent_run_id, tags=content.tags)
        write_params(self._client, run, content)
        for other in earlier:
            supersede(self._client, other, run.info.run_id)
        return str(run.info.run_id)
