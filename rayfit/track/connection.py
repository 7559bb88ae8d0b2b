"""The one place that imports MLflow: where runs are kept, how to get there, and how to look at them."""

from __future__ import annotations

import logging
import os
import re
import shlex
import shutil
import sqlite3
import sys
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from filelock import FileLock

from rayfit.errors import RayfitError, first_line
from rayfit.records.storage import Storage

if TYPE_CHECKING:
    from mlflow import MlflowClient

SQLITE = "sqlite:///"
PROBE_SECONDS = 10
UI_PORT = 5000


class TrackingError(RayfitError):
    """MLflow does not take what it is given. The records are whole: `rayfit sync` fills it again."""


def default_tracking_uri(storage: Storage) -> str:
    """The tracking URI of a storage's own SQLite file."""
    return f"{SQLITE}{storage.root / 'mlflow.db'}"


def connect(uri: str | None, storage: Storage) -> MlflowClient:
    """A client for `uri` (None: the storage's own SQLite file) that has been answered once.

    Raises RayfitError for a URI that would lose runs (relative, or MLflow's retired file store), and
    TrackingError for a server that does not answer within seconds or refuses, and for a file that is no
    database of this MLflow.
    """
    uri = uri or default_tracking_uri(storage)
    if uri.startswith("sqlite:"):
        path = _database_path(uri)
        _load_mlflow()
        return _open_database(uri, path)
    if uri.startswith(("http://", "https://")):
        _check_address(uri)
        _load_mlflow()
        return _reach_server(uri)
    raise RayfitError(f"--tracking-uri: {_wrong_scheme(without_password(uri))}")


def entities() -> ModuleType:
    """`mlflow.entities`, imported when first needed."""
    import mlflow.entities

    return mlflow.entities


@contextmanager
def tracking_errors(client: MlflowClient) -> Iterator[None]:
    """Raise what MLflow or its network raises inside as TrackingError, naming the way on."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, OSError) as error:
        where = without_password(client.tracking_uri)
        raise TrackingError(
            f"MLflow at {where}: {_first_line(error)}; all records are kept, "
            "and `rayfit sync` fills MLflow from them"
        ) from error


def ui_command(uri: str) -> str:
    """What shows the runs: a shell command for a SQLite file, the address to open for a server."""
    if not uri.startswith("sqlite:"):
        return without_password(uri)
    beside = Path(sys.executable).parent / "mlflow"
    found = shutil.which("mlflow")
    # the command must work in a shell where nobody activated the environment that rayfit is installed in
    program = "mlflow" if found and Path(found) == beside else shlex.quote(str(beside))
    artifacts = (_database_path(uri).parent / "mlartifacts").as_uri()
    return (
        # without these two the UI phones home, and keeps 2 GB of idle processes
        "MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false "
        f"{program} ui --workers 1 --port {UI_PORT} --backend-store-uri {shlex.quote(uri)} "
        f"--default-artifact-root {shlex.quote(artifacts)}"
    )


def ui_address(uri: str) -> str:
    """Where a browser finds the UI, once `ui_command` runs; a server's own address."""
    return (
        without_password(uri).rstrip("/") if not uri.startswith("sqlite:") else f"http://127.0.0.1:{UI_PORT}"
    )


def without_password(uri: str) -> str:
    """`uri` without the user and password it may hold: what may be printed.

    Everything before the last @ goes: a password may hold a slash that nobody has escaped.
    """
    scheme, mark, rest = uri.partition("://")
    if scheme == "sqlite" or "@" not in rest:
        return uri
    return f"{scheme}{mark}{rest.rpartition('@')[2]}"


def _check_address(uri: str) -> None:
    try:
        parts = urlsplit(uri)
        known = parts.hostname is not None and (parts.port is None or parts.port > 0)
    except ValueError:
        known = False
    if not known:
        raise RayfitError(
            f"--tracking-uri: {without_password(uri)!r} is no address; expected http(s)://[USER:PASSWORD@]HOST[:PORT], "
            "with / : @ in a password written as %2F %3A %40"
        )


def database_file(uri: str) -> Path | None:
    """The file that a SQLite URI names; None for a server's address."""
    return Path(uri.removeprefix(SQLITE)) if uri.startswith(SQLITE) else None


def _database_path(uri: str) -> Path:
    text = uri.removeprefix(SQLITE) if uri.startswith(SQLITE) else ""
    if not text.startswith("/"):
        raise RayfitError(
            f"--tracking-uri: {uri} is relative to wherever a process happens to be, so runs get lost; "
            f"expected four slashes and the whole path: {SQLITE}{Path(text or 'mlflow.db').absolute()}"
        )
    return Path(text)


def _wrong_scheme(uri: str) -> str:
    scheme = uri.split(":", maxsplit=1)[0] if ":" in uri else "file"
    expected = f"expected {SQLITE}/absolute/path/mlflow.db or the http(s) address of an MLflow server"
    if scheme == "file":
        return f"{uri!r} is a folder, and MLflow no longer keeps runs in folders (since 3.13); {expected}"
    return (
        f"{uri!r} cannot be used directly; {expected}. For a database start a server on it: "
        "mlflow server --backend-store-uri URI --artifacts-destination FOLDER"
    )


def _load_mlflow() -> None:
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["DO_NOT_TRACK"] = "true"
    # two lines for each run that ends, on a server
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    # MLflow's own defaults keep a sweep waiting for ten minutes when its server dies
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    import mlflow  # noqa: F401 - its import sets up the loggers that are turned down here

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _open_database(uri: str, path: Path) -> MlflowClient:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Two processes that make the tables at once leave a database that is broken for good.
        with FileLock(f"{path}.lock"):
            with closing(sqlite3.connect(path)) as database:
                database.execute("PRAGMA schema_version")
            with warnings.catch_warnings():
                # MLflow 3.17 maps its tables in a way that SQLAlchemy 2.1 calls old; no user can change that
                warnings.filterwarnings("ignore", "The ``noload`` loader strategy", DeprecationWarning)
                client = MlflowClient(tracking_uri=uri, registry_uri=uri)
                client.search_experiments(max_results=1)
    except (OSError, sqlite3.Error) as error:
        raise TrackingError(
            f"--tracking-uri: {path} cannot be opened as a SQLite database: {error}; give another file, "
            "or move it away and `rayfit sync` fills a new one from the records"
        ) from error
    except MlflowException as error:
        raise TrackingError(
            f"--tracking-uri: {path} is not usable by this MLflow: {_first_line(error)}; "
            f"run `mlflow db upgrade {uri}`, or move the file away "
            "and `rayfit sync` fills a new one from the records"
        ) from error
    return client


def _reach_server(uri: str) -> MlflowClient:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    shown = without_password(uri)
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    try:
        with _environment(
            MLFLOW_HTTP_REQUEST_MAX_RETRIES="0", MLFLOW_HTTP_REQUEST_TIMEOUT=str(PROBE_SECONDS)
        ):
            client.search_experiments(max_results=1)
    except MlflowException as error:
        if error.get_http_status_code() in (401, 403):
            raise TrackingError(
                f"--tracking-uri: the MLflow server at {shown} refuses these credentials; "
                "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or write ~/.mlflow/credentials"
            ) from error
        raise TrackingError(
            f"--tracking-uri: no MLflow server answers at {shown} ({_first_line(error)}); "
            "start it or mend the address, or leave --tracking-uri out: "
            "runs then go to a SQLite file in the storage"
        ) from error
    return client


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _first_line(error: Exception) -> str:
    """The error's first line, at its cause where it names one, without the password its address may hold."""
    text = re.sub(r"://[^@\s]+@", "://", first_line(error).rpartition("Caused by ")[2])
    return text if len(text) <= 300 else text[:299] + "…"
