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
from rayfit.track.connection import TrackingError, connect
from rayfit.track.live import LiveCurves
from rayfit.track.sync import sync_sweep
from tests.unit.track.general import write_general
from tests.unit.track.reading import all_runs, artifacts, child_of, history, parent_of, snapshot
from tests.unit.track.samples import (
    UPDATES,
    curve,
    sweep_record,
    trial_id,
    write_all,
    write_evaluation,
    write_trial,
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
    sweep = write_all(storage, decodings=("greedy", "nucleus:top_p=0.8"))
    client = connect(server.uri, storage)
    report = sync_sweep(storage, sweep, client, finished=True)
    assert report.created == 5
    assert capsys.readouterr().out == ""
    parent = parent_of(client, sweep["id"])
    assert parent.info.status == "FINISHED"
    assert sorted(artifacts(client, parent)) == ["launches.json", "plot.png", "summary.json", "table.txt"]
    for samples in (8, 32, 128):
        run = child_of(client, parent, trial_id=trial_id(samples))
        points = history(client, run)
        assert [(step, value) for step, value, _ in points["curve/train_loss"]] == [
            (row["update"], row["train_loss"]) for row in curve(samples).to_dicts()
        ]
        record = storage.read("evaluations", f"pydoc-1m-n{samples}-greedy-0123456789ab")
        assert record is not None
        assert run.data.metrics["ttr_last_96"] == record["scores"]["ttr_last_96"]["value"]
        assert run.data.params["samples"] == str(samples)
        folder = tmp_path / f"fetched-{samples}"
        folder.mkdir()
        fetched = client.download_artifacts(run.info.run_id, "generations/greedy.parquet", str(folder))
        assert pl.read_parquet(fetched).height == 2
    assert not (storage.root / "mlartifacts").exists()

    before = snapshot(client)
    assert sync_sweep(storage, sweep, connect(server.uri, storage), finished=True).unchanged == 5
    assert snapshot(client) == before

    write_trial(storage, 8, minute=20, edition=2)
    for decoding in ("greedy", "nucleus:top_p=0.8"):
        write_evaluation(storage, 8, decoding)
    assert sync_sweep(storage, sweep, client, finished=True).created == 1
    old = child_of(client, parent, trial_id=trial_id(8), superseded="true")
    assert old.info.run_name.startswith("superseded: ")


def test_a_sweep_of_several_models_over_http(server: Server, tmp_path: Path) -> None:
    storage = Storage(tmp_path / "runs")
    sweep = {**write_general(storage), "sweep_kind": "general"}
    client = connect(server.uri, storage)
    begin = time.monotonic()
    assert sync_sweep(storage, sweep, client, finished=True).created == 7
    assert time.monotonic() - begin < 60
    parent = parent_of(client, sweep["id"], "rayfit/general")
    assert "figures/figure-1-agreement.png" in artifacts(client, parent)
    run = child_of(client, parent, trial_id=sweep["trials"][0])
    assert [step for step, _, _ in history(client, run)["nucleus/docs/ttr_last_96"]] == [100, 200, UPDATES]
    before = snapshot(client, "rayfit/general")
    assert sync_sweep(storage, sweep, client, finished=True).unchanged == 7
    assert snapshot(client, "rayfit/general") == before


def test_a_curve_grows_over_http_and_is_completed_by_the_sync(server: Server, tmp_path: Path) -> None:
    storage = Storage(tmp_path / "runs")
    sweep = {**sweep_record((8,)), "sweep_kind": "live"}
    client = connect(server.uri, storage)
    live = LiveCurves(storage, client, every_seconds=3600)
    live.start(sweep)
    for row in curve(8).to_dicts()[:5]:
        live.see({trial_id(8): {"status": "running", "tries": 1, "last_point": row}})
    live.send()
    live.close()
    parent = parent_of(client, sweep["id"], "rayfit/live")
    early = child_of(client, parent, trial_id=trial_id(8))
    assert len(history(client, early)["curve/train_loss"]) == 5
    done = datetime.now(UTC) + timedelta(seconds=1)
    write_trial(storage, 8, finished_at=done.isoformat(timespec="milliseconds"))
    sync_sweep(storage, sweep, client)
    run = child_of(client, parent, trial_id=trial_id(8))
    assert run.info.run_id == early.info.run_id
    steps = [step for step, _, _ in history(client, run)["curve/train_loss"]]
    assert steps == curve(8)["update"].to_list()


def test_a_server_that_dies_is_filled_after_it_is_back(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    storage = Storage(tmp_path / "runs")
    sweep = {**write_all(storage), "sweep_kind": "after_death"}
    client = connect(server.uri, storage)
    server.stop()
    with pytest.raises(TrackingError, match="`rayfit sync` fills MLflow from them"):
        sync_sweep(storage, sweep, client)
    with pytest.raises(TrackingError, match="no MLflow server answers"):
        connect(server.uri, storage)
    server.start()
    sync_sweep(storage, sweep, client, finished=True)
    assert len(all_runs(client, "rayfit/after_death")) == 5
