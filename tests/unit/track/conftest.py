"""A storage with MLflow's tables made once: its migrations take seconds, copying the file does not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from rayfit.records.storage import Storage
from rayfit.track.connection import connect


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    storage = Storage(tmp_path_factory.mktemp("template"))
    connect(None, storage)
    return storage.root / "mlflow.db"


@pytest.fixture
def storage(tmp_path: Path, empty_database: Path) -> Storage:
    # a space, because folders have them and URIs do not
    root = tmp_path / "all runs"
    root.mkdir()
    shutil.copyfile(empty_database, root / "mlflow.db")
    return Storage(root)
