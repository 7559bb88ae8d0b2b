from __future__ import annotations

import platform
from datetime import datetime, timedelta
from importlib import metadata

import pytest

from rayfit.records import provenance


def test_the_time_is_utc_and_can_be_read_back() -> None:
    read = datetime.fromisoformat(provenance.now())
    assert read.utcoffset() == timedelta(0)
    assert abs(datetime.now(read.tzinfo) - read) < timedelta(minutes=1)


def test_versions_are_those_installed() -> None:
    versions = provenance.library_versions()
    assert versions["python"] == platform.python_version()
    assert versions["torch"] == metadata.version("torch")
    assert {"deepspeed", "ray", "transformers", "mlflow"} <= set(versions)


def test_a_job_that_travels_without_git_names_its_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    provenance.git_commit.cache_clear()
    monkeypatch.setenv("RAYFIT_GIT_COMMIT", "0123abc")
    try:
        assert provenance.git_commit() == "0123abc"
        monkeypatch.delenv("RAYFIT_GIT_COMMIT")
        monkeypatch.setenv("PATH", "")  # no git at all
        provenance.git_commit.cache_clear()
        assert provenance.git_commit() is None
    finally:
        provenance.git_commit.cache_clear()
