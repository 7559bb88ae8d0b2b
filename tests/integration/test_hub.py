"""Loading from the hub, driven offline against a folder laid out as the hub's own cache."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.launching import ROOT
from tests.tiny import save_tiny_llama

pytestmark = pytest.mark.integration

COMMIT = "0123456789abcdef0123456789abcdef01234567"

CODE = """
import sys
from rayfit.plan.sources import resolve_model
from rayfit.records.storage import Storage
from rayfit.sweep.models import hub_model

storage = Storage(sys.argv[1])
source = resolve_model(sys.argv[2], "main", storage)
print(source.kind, source.declared)
print(*hub_model(source, storage))
print(resolve_model(sys.argv[2], "main", storage).declared)
"""


def _run(storage: Path, cache: Path, model: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HF_HOME": str(cache), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", CODE, str(storage), model]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=120, check=False
    )


def _cached(cache: Path, model: str) -> Path:
    folder = cache / "hub" / f"models--{model.replace('/', '--')}"
    save_tiny_llama(folder / "snapshots" / COMMIT)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(COMMIT)
    return folder / "snapshots" / COMMIT


def test_a_cached_model_is_found_and_its_commit_locked(tmp_path: Path) -> None:
    snapshot = _cached(tmp_path / "cache", "some/tiny")
    storage = tmp_path / "runs"
    storage.mkdir()
    done = _run(storage, tmp_path / "cache", "some/tiny")
    assert done.returncode == 0, done.stderr
    pending, found, known = done.stdout.splitlines()
    assert pending == "hub None"
    assert found == f"{snapshot} {COMMIT}"
    assert known == str({"hub_id": "some/tiny", "commit": COMMIT})
    assert json.loads((storage / "hub.lock.json").read_text()) == {"some/tiny@main": COMMIT}


def test_a_model_that_cannot_be_reached_says_so(tmp_path: Path) -> None:
    storage = tmp_path / "runs"
    storage.mkdir()
    done = _run(storage, tmp_path / "cache", "some/other")
    assert done.returncode != 0
    assert "RayfitError" in done.stderr and "some/other" in done.stderr and "cannot be reached" in done.stderr


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    snapshot = _cached(tmp_path / "cache", "some/pickle")
    (snapshot / "model.safetensors").rename(snapshot / "pytorch_model.bin")
    storage = tmp_path / "runs"
    storage.mkdir()
    done = _run(storage, tmp_path / "cache", "some/pickle")
    assert done.returncode != 0 and "no .safetensors weights" in done.stderr
