"""What tells MLflow of a sweep while it runs: one thread, of what changed. The driver's loop never waits for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

from filelock import FileLock

from rayfit.columns import TRAINED, column
from rayfit.errors import RayfitError, first_line
from rayfit.records.states import is_begun_anew, kept_points
from rayfit.records.storage import Storage
from rayfit.records.sweep import SweepRecord
from rayfit.records.told import remember_told, told_of
from rayfit.records.trial import Point as CurvePoint
from rayfit.records.trials import read_failure
from rayfit.track.connection import connect, database_file, tracking_errors, without_password
from rayfit.track.content import CURRENT, LIVE_SINCE, TRIAL, Content, as_tags, milliseconds
from rayfit.track.index import SweepIndex
from rayfit.track.matching import goes_on, was_given_up
from rayfit.track.runs import declared_params, measured_points, trial_identity
from rayfit.track.sync import LOCK, SweepSync, SyncReport, search, sync_sweep
from rayfit.track.writer import create_run, log_metrics, supersede, write_params

if TYPE_CHECKING:
    from mlflow import MlflowClient

_Made = TypeVar("_Made")

CURVES_SECONDS = 5.0
CHILDREN_SECONDS = 10.0


class Seen(Protocol):
    """What is looked at of where a trial stands (`rayfit.sweep.queue.TrialState`)."""

    @property
    def status(self) -> str:
        """`running` while it is being trained."""

    @property
    def tries(self) -> int:
        """How often its training was begun."""

    @property
    def last_point(self) -> CurvePoint | None:
        """The last point of the try that runs."""


class Tracker:
    """A sweep's way to MLflow. `see` and `changed` note what there is to tell; a thread tells it.

    `uri`: where MLflow is. `place`: what follows the UI's address to compare the trials, empty until `finish` has sent
    everything. `error`: why MLflow could not be told the last time, empty where it was. `note`: what else went wrong.
    """

    def __init__(
        self,
        storage: Storage,
        uri: str,
        *,
        curves_seconds: float = CURVES_SECONDS,
        children_seconds: float = CHILDREN_SECONDS,
    ) -> None:
        """Connects to nothing yet.

        `curves_seconds`: between two sendings of curves; `children_seconds`: the least between two of what was trained
        and measured.
        """
        self.uri, self.place, self.error, self.note = uri, "", "", ""
        self._storage = storage
        self._connecting: Future[MlflowClient] | None = None
        self._seconds = (curves_seconds, children_seconds)
        self._curves = _LiveCurves(storage)
        self._sync: SweepSync | None = None
        self._report: SyncReport | None = None
        self._record: SweepRecord | None = None
        self._changed: set[str | None] = set()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._died = ""

    def connect(self) -> None:
        """Begin to connect, which takes seconds, in a thread; asking again changes nothing."""
        if self._connecting is None:
            self._connecting = _begun(lambda: connect(self.uri, self._storage))

    def ready(self) -> None:
        """Connect and wait until MLflow has answered once. Raises as `rayfit.track.connection.connect`."""
        _ = self._client

    @property
    def _client(self) -> MlflowClient:
        self.connect()
        assert self._connecting is not None
        return self._connecting.result()

    def has_told(self, record: SweepRecord | None) -> bool:
        """Whether an earlier launch has sent all of this record, but for launches that did nothing.

        A server may have lost it since; `rayfit sync` tells it again whatever is remembered.
        """
        database = database_file(self.uri)
        if record is None or (database is not None and not database.exists()):
            return False
        return told_of(self._storage, record).get("mlflow") == without_password(self.uri)

    def start(self, record: SweepRecord) -> None:
        """Begin to tell, now and then, of the sweep that this record declares."""
        self._record = record
        self._thread = threading.Thread(target=self._tell_now_and_then, name="tracker", daemon=True)
        self._thread.start()

    def see(self, state: Mapping[str, Seen]) -> None:
        """Take the newest points of curves from where the trials stand, by their ids. Calls nothing."""
        self._curves.see(state)

    def changed(self, trial_id: str | None, record: SweepRecord | None = None) -> None:
        """Note that something of a trial, or of the original models (None), is new. Calls nothing.

        `record`: the sweep's, where it changed too.
        """
        with self._lock:
            self._changed.add(trial_id)
            self._record = record or self._record

    def stop(self) -> None:
        """Stop the thread, once it has sent what it is sending; what waits is left to `finish`."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join()

    def finish(self, record: SweepRecord) -> None:
        """Stop the thread and send everything, the report's files with it; sets `place`, or `error`.

        Where nothing was sent in this launch, and all of the record was sent by an earlier one, it is left at that.
        """
        self.stop()
        if self._connecting is None and self.has_told(record):
            self.place = told_of(self._storage, record)["place"]
            return
        try:
            report = sync_sweep(self._storage, record, self._client, finished=True)
            remember_told(self._storage, record, mlflow=without_password(self.uri), place=report.place)
        except RayfitError as error:
            self.error = first_line(error)
        else:
            # All is there now. That the thread ended early is a defect of rayfit, which is told all the same.
            self.place, self.error, self.note = report.place, "", self._died

    def tell(self, *, children: bool = True) -> None:
        """Send what waits: curves, and `children` that changed, all of them the first time.

        Raises TrackingError when MLflow cannot be reached or refuses, RayfitError for a record that cannot be read; then
        it all waits for the next time.
        """
        if self._sync is None or self._report is None or (children and self._changed):
            self._tell_children()
        assert self._sync is not None and self._report is not None
        self._curves.send(self._client, self._sync.index, self._report)

    def _tell_children(self) -> None:
        with self._lock:
            record, changed = self._record, self._changed
            self._changed = set()
        assert record is not None
        try:
            if self._report is None:
                # Again from the beginning, where the first time went wrong.
                self._sync = SweepSync(self._storage, self._client, record)
                self._report = self._sync.write()
            elif self._sync is not None:
                self._report = self._sync.write(record, changed)
        except RayfitError:
            with self._lock:
                self._changed |= changed
            raise

    def _tell_now_and_then(self) -> None:
        every, children_every = self._seconds
        told_children = 0.0
        try:
            while not self._closing.wait(every):
                is_time = time.monotonic() - told_children >= children_every
                try:
                    self.tell(children=is_time)
                    self.error = ""
                except RayfitError as error:
                    self.error = first_line(error)
                if is_time:
                    told_children = time.monotonic()
        except Exception as error:  # noqa: BLE001 - nobody else sees what ends a thread
            self._died = f"its thread ended early: {type(error).__name__}: {first_line(error)}"
            self.error = self._died


def _begun(call: Callable[[], _Made]) -> Future[_Made]:
    """A call in a thread. The process does not end before it has: a database that is half made stays broken."""
    made: Future[_Made] = Future()

    def run() -> None:
        try:
            made.set_result(call())
        except BaseException as error:  # noqa: BLE001 - raised where the result is asked for
            made.set_exception(error)

    threading.Thread(target=run, name="connecting to MLflow").start()
    return made


@dataclass
class _Training:
    """One try at training a trial. `since`: when it began, in milliseconds since 1970."""

    tries: int
    since: int
    last_update: int = -1
    run_id: str = ""
    waiting: list[CurvePoint] = field(default_factory=list)


class _LiveCurves:
    """Points of running trials, kept as they are seen until they are sent.

    What is sent is the beginning of what a later sync writes, to the millisecond, so that nothing stands twice.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._trainings: dict[str, _Training] = {}
        self._lock = threading.Lock()

    def see(self, state: Mapping[str, Seen]) -> None:
        """Take what is new of each trial, by its id. Calls nothing."""
        with self._lock:
            for trial_id, trial in state.items():
                if trial.status != "running":
                    # its record, or its failure, has everything from now on
                    self._trainings.pop(trial_id, None)
                elif trial.last_point is not None:
                    self._take(trial_id, trial.tries, trial.last_point)

    def _take(self, trial_id: str, tries: int, point: CurvePoint) -> None:
        training = self._trainings.get(trial_id)
        if training is None or training.tries != tries:
            since = round(1000 * (time.time() - point.seconds))
            training = self._trainings[trial_id] = _Training(tries, since)
        if point.update > training.last_update:
            training.last_update = point.update
            training.waiting.append(point)

    def send(self, client: MlflowClient, sweep: SweepIndex, place: SyncReport) -> None:
        """Write what waits: one call for each trial that runs, and the run of one that has none yet.

        `place`: where the sweep is in MLflow. Raises TrackingError when MLflow cannot be reached or refuses; then the
        points wait for the next time.
        """
        with self._lock:
            waiting = {key: list(found.waiting) for key, found in self._trainings.items() if found.waiting}
            trainings = {key: self._trainings[key] for key in waiting}
        if not waiting:
            return
        with FileLock(self._storage.root / LOCK), tracking_errors(client):
            for trial_id, training in trainings.items():
                if not training.run_id and not self._has_ended(trial_id, training):
                    self._find_run(client, trial_id, training, sweep, place)
                if training.run_id:
                    found = [
                        one for each in waiting[trial_id] for one in measured_points(each, training.since)
                    ]
                    log_metrics(client, training.run_id, found)
                with self._lock:
                    del training.waiting[: len(waiting[trial_id])]

    def _has_ended(self, trial_id: str, training: _Training) -> bool:
        """True when it ended between seeing and sending; a sync may have made its run already."""
        record, failure = self._storage.trial(trial_id), read_failure(self._storage, trial_id)
        ends = (
            None if record is None else milliseconds(record.finished_at),
            None if failure is None else milliseconds(failure.failed_at),
        )
        return any(end is not None and end > training.since for end in ends)

    def _find_run(
        self,
        client: MlflowClient,
        trial_id: str,
        training: _Training,
        sweep: SweepIndex,
        place: SyncReport,
    ) -> None:
        """Give the training the run that an earlier try of it left, where it went on from its state; else a new one."""
        query = f"tags.`mlflow.parentRunId` = '{place.parent_run_id}' and tags.`{TRIAL}` = '{trial_id}'"
        earlier = [run for run in search(client, [place.experiment_id], query) if was_given_up(run)]
        curve = [
            one for each in kept_points(self._storage, trial_id).values() for one in measured_points(each, 0)
        ]
        own = next((run for run in earlier if goes_on(client, run, curve, 0)), None)
        if own is not None:
            training.run_id, training.since = own.info.run_id, int(own.data.tags[LIVE_SINCE])
            if own.info.status != "RUNNING":
                client.set_terminated(training.run_id, status="RUNNING")
            return
        training.run_id = self._create(client, trial_id, training, sweep, place)
        for other in earlier:
            supersede(client, other, training.run_id)

    def _create(
        self,
        client: MlflowClient,
        trial_id: str,
        training: _Training,
        sweep: SweepIndex,
        place: SyncReport,
    ) -> str:
        before = self._storage.trial(trial_id)
        edition = 1
        if before is not None:
            is_anew = sweep.record.options["fresh"] or is_begun_anew(self._storage, before)
            edition = before.edition + bool(is_anew)
        tags = {"rayfit.who": TRAINED, column("arm").tag: sweep.arms(trial_id)}
        content = Content(
            name=trial_id.rpartition("-")[0],
            status="RUNNING",
            started=training.since,
            ended=None,
            identity=trial_identity(trial_id, edition),
            tags={**as_tags(tags), LIVE_SINCE: str(training.since), CURRENT: "true"},
            params=declared_params(sweep.declared_row(trial_id)),
        )
        run = create_run(client, place.experiment_id, content, place.parent_run_id, tags=content.tags)
        write_params(client, run, content)
        return str(run.info.run_id)
