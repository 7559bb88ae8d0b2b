"""The same sweep through a real MLflow server, over HTTP, artifacts included."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from rayfit.records.storage import Storage
from rayfit.records.trials import finest_curve
from rayfit.sweep.queue import TrialState
from rayfit.track.connection import TrackingError, connect
from rayfit.track.sync import sync_sweep
from rayfit.track.tracker import Tracker
from tests.unit.track.reading import all_runs, artifacts, child_of, history, parent_of, snapshot
from tests.unit.track.sweeps import (
    UPDATES,
    curve,
    general,
    measure_all,
    run_of,
    spec_of,
    trial_with,
    write_report,
)

pytestmark = pytest.mark.integration


class Server:
    """An MLflow server on loopback that can be ended and started again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [
            str(Path(sys.executable).parent / "mlflow"),
            *("server", "--host", "127.0.0.1", "--port", str(self._port), "--workers", "1"),
            *("--backend-store-uri", f"sqlite:///{self._folder}/server.db"),
            *("--artifacts-destination", str(self._folder / "artifacts")),
        ]
        environment = {
            **os.environ,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, env=environment, cwd=self._folder, stdout=log, stderr=log, start_new_session=True
            )
        end = time.monotonic() + 120
        while not self._answers():
            assert self._process.poll() is None, (self._folder / "server.log").read_text()
            assert time.monotonic() < end, (self._folder / "server.log").read_text()
            time.sleep(0.3)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def stop(self) -> None:
        if self._process is None:
            return
        # its workers are in the session that it leads
        os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(20)
        self._process = None


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    started = Server(tmp_path_factory.mktemp("server"))
    try:
        started.start()
        yield started
    finally:
        started.stop()


def test_a_sweep_over_http(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    storage = Storage(tmp_path / "runs")
    made = run_of(storage, decodings=("greedy", "nucleus:top_p=0.8")).all()
    record = made.record()
    write_report(storage, record)
    client = connect(server.uri, storage)
    report = sync_sweep(storage, record, client, finished=True)
    assert report.created == 5
    assert capsys.readouterr().out == ""
    parent = parent_of(client, record.id)
    assert parent.info.status == "FINISHED"
    assert {"launches.json", "plot.png", "figures/figure-1-agreement.png"} <= set(artifacts(client, parent))
    for trial in made.plan.trials:
        run = child_of(client, parent, trial_id=str(trial.id))
        points = history(client, run)
        trained = storage.trial(trial.id)
        assert trained is not None
        curve_file = finest_curve(storage, trained)
        assert curve_file is not None
        assert [(step, value) for step, value, _ in points["curve/train_loss"]] == [
            (row["update"], row["train_loss"]) for row in pl.read_parquet(curve_file).to_dicts()
        ]
        spec = spec_of(made, "scores", trial, decoding="greedy")
        found = storage.measurement(spec.kind, spec.id)
        assert found is not None
        assert run.data.metrics["ttr_last_96"] == found.scores["ttr_last_96"].value
        assert run.data.params["samples"] == str(trial.selection.samples)
        folder = tmp_path / f"fetched-{trial.selection.samples}"
        folder.mkdir()
        fetched = client.download_artifacts(run.info.run_id, "generations/greedy/texts.parquet", str(folder))
        assert pl.read_parquet(fetched).height == 4
    assert not (storage.root / "mlartifacts").exists()

    before = snapshot(client)
    assert sync_sweep(storage, record, connect(server.uri, storage), finished=True).unchanged == 5
    assert snapshot(client) == before

    trial = trial_with(made, 8)
    made.train(trial, fresh=True, digest="other", finished_at="2026-03-01T10:20:00.000+00:00")
    measure_all(made, trial)
    assert sync_sweep(storage, record, client, finished=True).created == 1
    old = child_of(client, parent, trial_id=str(trial.id), superseded="true")
    assert old.info.run_name.startswith("superseded: ")


def test_a_sweep_of_several_models_over_http(server: Server, tmp_path: Path) -> None:
    storage = Storage(tmp_path / "runs")
    made = general(storage, kind="general")
    record = made.record()
    client = connect(server.uri, storage)
    assert sync_sweep(storage, record, client, finished=True).created == 11
    parent = parent_of(client, record.id, "rayfit/general")
    trial = next(trial for trial in made.plan.unique_trials if trial.recipe.num_updates == UPDATES)
    run = child_of(client, parent, trial_id=str(trial.id))
    steps = [step for step, _, _ in history(client, run)["nucleus/docstrings/ttr_last_96"]]
    assert steps == [40, 80, UPDATES]
    before = snapshot(client, "rayfit/general")
    assert sync_sweep(storage, record, client, finished=True).unchanged == 11
    assert snapshot(client, "rayfit/general") == before


def test_a_curve_grows_over_http_and_is_completed_by_the_sync(server: Server, tmp_path: Path) -> None:
    storage = Storage(tmp_path / "runs")
    made = run_of(storage, changes={"kind": "live"}, samples=(8,))
    record, trial = made.begun(), trial_with(made, 8)
    trial_id = str(trial.id)
    client = connect(server.uri, storage)
    tracker = Tracker(storage, server.uri, curves_seconds=3600)
    tracker.start(record)
    for point in curve()[:5]:
        tracker.see({trial_id: TrialState("running", 1, point, None, "")})
    tracker.tell()
    parent = parent_of(client, record.id, "rayfit/live")
    early = child_of(client, parent, trial_id=trial_id)
    assert len(history(client, early)["curve/train_loss"]) == 5
    done = datetime.now(UTC) + timedelta(seconds=1)
    made.train(trial, curve=curve(), finished_at=done.isoformat(timespec="milliseconds"))
    tracker.finish(made.record())
    assert tracker.error == "" and tracker.place
    run = child_of(client, parent, trial_id=trial_id)
    assert run.info.run_id == early.info.run_id
    steps = [step for step, _, _ in history(client, run)["curve/train_loss"]]
    assert steps == [point.update for point in curve()]


def test_a_server_that_dies_is_filled_after_it_is_back(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    storage = Storage(tmp_path / "runs")
    made = run_of(storage, changes={"kind": "after_death"}).all()
    record = made.record()
    tracker = Tracker(storage, server.uri, curves_seconds=3600)
    tracker.ready()
    client = connect(server.uri, storage)
    server.stop()
    with pytest.raises(TrackingError, match="`rayfit sync` fills MLflow from them"):
        sync_sweep(storage, record, client)
    with pytest.raises(TrackingError, match="no MLflow server answers"):
        connect(server.uri, storage)
    tracker.finish(record)
    assert "all records are kept" in tracker.error and tracker.place == ""
    server.start()
    tracker.finish(record)
    assert tracker.error == ""
    assert len(all_runs(client, "rayfit/after_death")) == 5
