"""Models of the hub: read offline from a folder laid out as the hub's own cache, and downloaded from a server."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hub_server import HubServer, Repo, serving
from tests.launching import ROOT
from tests.tiny import save_tiny_llama

pytestmark = pytest.mark.integration

COMMIT = "0123456789abcdef0123456789abcdef01234567"

CODE = """
import sys
from rayfit.plan.sources import resolve_model
from rayfit.records.storage import Storage
from rayfit.prepare.given_models import hub_model
from rayfit.console import Console

storage = Storage(sys.argv[1])
source = resolve_model(sys.argv[2], "main", storage)
print(source.kind, source.declared)
print(*hub_model(source, storage, Console(sys.stderr)))
print(resolve_model(sys.argv[2], "main", storage).declared)
"""


CHECK = """
import sys
from rayfit.plan.sources import resolve_model
from rayfit.records.storage import Storage
from rayfit.prepare.given_models import check_models

storage = Storage(sys.argv[1])
check_models([resolve_model(name, "main", storage) for name in sys.argv[2].split()], storage)
"""


def _run(
    storage: Path, cache: Path, model: str, endpoint: str = "", code: str = CODE, token: str = ""
) -> subprocess.CompletedProcess[str]:
    """The offline cache, or the hub at `endpoint` with nobody logged in but who has a token."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    where = {"HF_ENDPOINT": endpoint} if endpoint else {"HF_HUB_OFFLINE": "1"}
    environment |= {"HF_HOME": str(cache), "HF_HUB_DISABLE_TELEMETRY": "1", **where}
    environment |= {"HF_TOKEN": token} if token else {}
    command = [sys.executable, "-c", code, str(storage), model]
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


def test_pickled_weights_are_converted_once(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    snapshot = _cached(tmp_path / "cache", "some/pickle")
    weights = load_file(snapshot / "model.safetensors")
    (snapshot / "model.safetensors").unlink()
    torch.save(weights, snapshot / "pytorch_model.bin")
    storage = tmp_path / "runs"
    storage.mkdir()
    done = _run(storage, tmp_path / "cache", "some/pickle")
    assert done.returncode == 0, done.stderr
    path = Path(done.stdout.splitlines()[1].split()[0])
    assert path.is_relative_to(storage) and "converting the pickled weights of pickle" in done.stderr
    converted = load_file(path / "model.safetensors")
    assert converted.keys() == weights.keys()
    assert all(torch.equal(converted[name], tensor) for name, tensor in weights.items())
    record = json.loads((path / "record.json").read_text())
    for key, file in (
        ("converted_from", snapshot / "pytorch_model.bin"),
        ("converted_to", path / "model.safetensors"),
    ):
        assert record[key] == {file.name: hashlib.sha256(file.read_bytes()).hexdigest()}
    again = _run(storage, tmp_path / "cache", "some/pickle")
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines()[1] == done.stdout.splitlines()[1] and "converting" not in again.stderr


class _RunsCode:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.mark),)


def test_a_pickle_that_would_run_code_is_refused_and_not_run(tmp_path: Path) -> None:
    import torch

    snapshot = _cached(tmp_path / "cache", "some/pickle")
    (snapshot / "model.safetensors").unlink()
    torch.save(
        {"weight": torch.zeros(2), "more": _RunsCode(tmp_path / "was-run")}, snapshot / "pytorch_model.bin"
    )
    storage = tmp_path / "runs"
    storage.mkdir()
    done = _run(storage, tmp_path / "cache", "some/pickle")
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode != 0 and "loader of weights alone (it asks for posix.mkdir)" in last
    assert "ask its makers for safetensors" in last
    assert not (tmp_path / "was-run").exists() and not list((storage / "models").glob("[!.]*"))


def test_a_model_without_weights_is_refused_with_what_there_is(tmp_path: Path) -> None:
    folder = save_tiny_llama(tmp_path / "files")
    (folder / "model.safetensors").rename(folder / "flax_model.msgpack")
    with serving(HubServer(Repo(hub_id="some/flax", commit=COMMIT, folder=folder))) as server:
        done = _run(tmp_path / "runs", tmp_path / "cache", "some/flax", server.url)
        assert server.sent_bytes == 0
    last = done.stderr.strip().splitlines()[-1]
    assert (
        "neither .safetensors nor pytorch_model.bin" in last
        and "flax_model.msgpack" in last
        and "refs/pr/N" in last
    )


def test_a_model_is_downloaded_once_without_code_or_pickles(tmp_path: Path) -> None:
    folder = save_tiny_llama(tmp_path / "files")
    (folder / "modeling_own.py").write_text("raise SystemExit")
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    with serving(HubServer(Repo(hub_id="some/tiny", commit=COMMIT, folder=folder, kind="model"))) as server:
        done = _run(tmp_path / "runs", tmp_path / "cache", "some/tiny", server.url)
        missing = _run(tmp_path / "runs", tmp_path / "cache", "some/other", server.url)
    assert done.returncode == 0, done.stderr
    path, commit = done.stdout.splitlines()[1].split()
    assert commit == COMMIT and Path(path).is_relative_to(tmp_path / "cache")
    found = {file.name for file in Path(path).iterdir()}
    assert {"config.json", "model.safetensors"} <= found
    assert not found & {"modeling_own.py", "pytorch_model.bin"}
    assert "the hub has no model some/other" in missing.stderr.splitlines()[-1]
    # From now on without the hub.
    again = _run(tmp_path / "runs", tmp_path / "cache", "some/tiny")
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines()[1] == f"{path} {COMMIT}"
    # Another storage, which has locked nothing, finds in the cache where the branch led.
    other = _run(tmp_path / "others", tmp_path / "cache", "some/tiny")
    assert other.returncode == 0 and other.stdout.splitlines()[1] == f"{path} {COMMIT}", other.stderr


def test_a_gated_model_says_how_to_get_access(tmp_path: Path) -> None:
    folder = save_tiny_llama(tmp_path / "files")
    with serving(
        HubServer(Repo(hub_id="some/tiny", commit=COMMIT, folder=folder, kind="model", gated=True))
    ) as server:
        done = _run(tmp_path / "runs", tmp_path / "cache", "some/tiny", server.url)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode != 0 and "some/tiny is gated; ask for access" in last and "hf auth login" in last
    assert server.sent_bytes == 0


def test_a_gated_model_that_is_in_the_cache_asks_for_no_access(tmp_path: Path) -> None:
    folder = save_tiny_llama(tmp_path / "files")
    with serving(HubServer(Repo(hub_id="some/gated", commit=COMMIT, folder=folder, gated=True))) as server:
        first = _run(tmp_path / "runs", tmp_path / "cache", "some/gated", server.url, token="someone")
        again = _run(tmp_path / "runs", tmp_path / "cache", "some/gated", server.url)
    assert first.returncode == 0, first.stderr
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines()[1] == first.stdout.splitlines()[1]


def test_half_a_model_in_the_cache_is_none_and_nothing_is_converted(tmp_path: Path) -> None:
    import torch

    snapshot = _cached(tmp_path / "cache", "some/half")
    (snapshot / "model.safetensors").unlink()
    torch.save({"lm_head.weight": torch.zeros(2)}, snapshot / "pytorch_model-00001-of-00002.bin")
    storage = tmp_path / "runs"
    storage.mkdir()
    done = _run(storage, tmp_path / "cache", "some/half")
    assert (
        done.returncode != 0 and "not (whole) in the local hub cache" in done.stderr.strip().splitlines()[-1]
    )
    assert not (storage / "models").exists()


def test_a_model_that_cannot_be_had_is_found_out_before_anything_of_another_is_fetched(
    tmp_path: Path,
) -> None:
    folder = save_tiny_llama(tmp_path / "files")
    with serving(HubServer(Repo(hub_id="some/tiny", commit=COMMIT, folder=folder, kind="model"))) as server:
        done = _run(tmp_path / "runs", tmp_path / "cache", "some/tiny some/other", server.url, code=CHECK)
    assert "the hub has no model some/other" in done.stderr.strip().splitlines()[-1]
    assert server.sent_bytes == 0
    with serving(
        HubServer(Repo(hub_id="some/gated", commit=COMMIT, folder=folder, kind="model", gated=True))
    ) as server:
        done = _run(tmp_path / "runs", tmp_path / "cache", "some/gated", server.url, code=CHECK)
    assert "some/gated is gated; ask for access" in done.stderr.strip().splitlines()[-1]
