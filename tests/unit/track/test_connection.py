from __future__ import annotations

import multiprocessing
import os
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rayfit.errors import RayfitError
from rayfit.records.storage import Storage
from rayfit.track.connection import (
    TrackingError,
    connect,
    default_tracking_uri,
    ui_address,
    ui_command,
    without_password,
)


def test_default_is_an_absolute_sqlite_file(tmp_path: Path) -> None:
    assert default_tracking_uri(Storage(tmp_path)) == f"sqlite:///{tmp_path}/mlflow.db"
    assert default_tracking_uri(Storage(tmp_path)).startswith("sqlite:////")


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("sqlite:///mlflow.db", "expected four slashes and the whole path: sqlite:////"),
        ("sqlite://", "expected four slashes"),
        ("./mlruns", "is a folder, and MLflow no longer keeps runs in folders"),
        ("file:///tmp/mlruns", "is a folder"),
        ("postgresql://me:secret@db/mlflow", "mlflow server --backend-store-uri"),
        ("databricks", "expected sqlite:////absolute/path/mlflow.db or the http"),
    ],
)
def test_uris_that_lose_runs_are_refused(tmp_path: Path, uri: str, says: str) -> None:
    with pytest.raises(RayfitError, match="--tracking-uri") as caught:
        connect(uri, Storage(tmp_path))
    assert says in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_server_that_is_not_there_is_named_within_seconds(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        uri = f"http://me:secret@127.0.0.1:{unused.getsockname()[1]}"
        began = time.monotonic()
        with pytest.raises(
            TrackingError, match=r"no MLflow server answers at http://127\.0\.0\.1:"
        ) as caught:
            connect(uri, Storage(tmp_path))
    assert time.monotonic() - began < 15
    assert "leave --tracking-uri out" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_database_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("these are not the tables you are looking for\n" * 100)
    with pytest.raises(TrackingError, match="cannot be opened as a SQLite database"):
        connect(None, Storage(tmp_path))


def test_a_database_of_another_mlflow_is_refused_with_the_command(storage: Storage) -> None:
    with sqlite3.connect(storage.root / "mlflow.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '0123456789ab'")
    database.close()
    with pytest.raises(TrackingError, match="mlflow db upgrade sqlite:///"):
        connect(None, storage)


def _connect(root: str, start: float, results: multiprocessing.Queue[str]) -> None:
    time.sleep(max(0.0, start - time.time()))
    try:
        client = connect(None, Storage(root))
        client.create_experiment(f"of-{os.getpid()}")
        results.put("ok")
    except Exception as error:  # noqa: BLE001 - shown by the test
        results.put(repr(error))


def test_two_processes_make_the_tables_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = multiprocessing.get_context("spawn")
    results: multiprocessing.Queue[str] = context.Queue()
    start = time.time() + 4
    processes = []
    for number in range(2):
        # MLflow's own lock lies in TMPDIR, which two users, or two containers, do not share
        (tmp_path / f"tmp{number}").mkdir()
        monkeypatch.setenv("TMPDIR", str(tmp_path / f"tmp{number}"))
        processes.append(context.Process(target=_connect, args=(str(tmp_path / "runs"), start, results)))
        processes[-1].start()
    outcomes = [results.get(timeout=120) for _ in processes]
    for process in processes:
        process.join(60)
    assert outcomes == ["ok", "ok"]
    assert len(connect(None, Storage(tmp_path / "runs")).search_experiments()) == 3


def test_ui_command_is_whole_and_quoted(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/my runs/mlflow.db"
    command = ui_command(uri)
    assert f"--backend-store-uri '{uri}'" in command
    assert f"--default-artifact-root file://{tmp_path}/my%20runs/mlartifacts" in command
    assert ui_address(uri) == "http://127.0.0.1:5000"


@pytest.mark.parametrize(
    "uri", ["http://[bad", "http://user:pa/ss@host:5000", "http://host:port", "https://"]
)
def test_what_is_no_address_is_refused_without_its_password(storage: Storage, uri: str) -> None:
    with pytest.raises(RayfitError, match="is no address; expected http") as refused:
        connect(uri, storage)
    assert "pa/ss" not in str(refused.value)


def test_a_password_with_a_slash_is_not_shown() -> None:
    assert without_password("postgresql://user:pa/ss@host:5432/db") == "postgresql://host:5432/db"


def test_a_server_is_shown_by_its_address_without_password() -> None:
    assert ui_command("https://me:secret@host:5000/base") == "https://host:5000/base"
    assert ui_address("https://host:5000/") == "https://host:5000"
    assert without_password("sqlite:////a/b@c.db") == "sqlite:////a/b@c.db"


def test_importing_the_room_loads_no_mlflow() -> None:
    code = "import sys, rayfit.track.tracker, rayfit.track.connection; assert 'mlflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_telemetry_is_off_before_mlflow_is_imported(tmp_path: Path, empty_database: Path) -> None:
    code = (
        "from rayfit.records.storage import Storage\nfrom rayfit.track.connection import connect\n"
        f"connect('sqlite:///{empty_database}', Storage({str(tmp_path)!r}))\n"
        "from mlflow.telemetry.utils import is_telemetry_disabled; assert is_telemetry_disabled()\n"
    )
    environment = {
        key: value for key, value in os.environ.items() if "TELEMETRY" not in key and key != "DO_NOT_TRACK"
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
