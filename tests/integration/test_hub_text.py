"""Datasets of the hub: read offline from a folder laid out as the hub's own cache, and streamed from a server."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from tests.hub_server import HubServer, Repo, serving
from tests.launching import ROOT

pytestmark = pytest.mark.integration

COMMIT = "0123456789abcdef0123456789abcdef01234567"
ROWS = [f"row {row} " + " ".join(f"word{row}x{place}" for place in range(20)) for row in range(60)]

CODE = """
import json, sys
from rayfit.plan.sources import ModelSource, resolve_text
from rayfit.records.storage import Storage
from rayfit.prepare.corpora import identify_text, read_spans

storage, name, pool = Storage(sys.argv[1]), sys.argv[2], int(sys.argv[3])
model = ModelSource(name="x", kind="local", declared=None)
before = resolve_text(name, "text", pool, model, storage)
identify_text(before, storage)
text = resolve_text(name, "text", pool, model, storage)
spans, facts = read_spans(text, storage, span_characters=100, held_out_share=0.25)
found = {"kind": before.kind, "before": before.declared, "declared": text.declared, "facts": facts}
print(json.dumps({**found, "name": text.name, "documents": spans["document"].to_list(), "texts": spans["text"].to_list()}))
"""


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache with one dataset: two configs, of which one has two files, and a README that says so."""
    folder = tmp_path / "cache" / "hub" / "datasets--some--words"
    snapshot = folder / "snapshots" / COMMIT
    for config, number, rows in (("plain", 0, ROWS[:40]), ("plain", 1, ROWS[40:]), ("other", 0, ROWS[::-1])):
        file = snapshot / config / f"train-{number:05d}.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        pl.DataFrame({"text": rows, "length": [len(row) for row in rows]}).write_parquet(file)
    (snapshot / "lines.txt").write_text("\n".join(ROWS))
    (snapshot / "README.md").write_text(
        "---\nconfigs:\n"
        + "".join(
            f"- config_name: {config}\n  data_files:\n  - split: train\n    path: {config}/*.parquet\n"
            for config in ("plain", "other")
        )
        + "---\n"
    )
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(COMMIT)
    return tmp_path / "cache"


def _run(
    cache: Path, storage: Path, name: str, pool: int = 50, endpoint: str = ""
) -> subprocess.CompletedProcess[str]:
    """The offline cache, or the hub at `endpoint` with nobody logged in."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    where = {"HF_ENDPOINT": endpoint} if endpoint else {"HF_HUB_OFFLINE": "1"}
    environment |= {"HF_HOME": str(cache), "HF_HUB_DISABLE_TELEMETRY": "1", **where}
    command = [sys.executable, "-c", CODE, str(storage), name, str(pool)]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=120, check=False
    )


def test_the_first_rows_are_read_and_the_commit_is_locked(cache: Path, tmp_path: Path) -> None:
    storage = tmp_path / "runs"
    done = _run(cache, storage, "some/words:plain", pool=50)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["kind"], found["name"], found["before"]) == ("hub", "words-plain", None)
    assert found["declared"]["commit"] == COMMIT and found["declared"]["pool"] == 50
    assert json.loads((storage / "hub.lock.json").read_text()) == {"datasets/some/words@main": COMMIT}
    assert (found["facts"]["documents"], found["facts"]["pool"]) == (50, 50)
    # Rows in the order of the files, each its own document, cut into whole spans of 100 characters.
    expected = [
        (f"plain/train/{row:08d}", text[start : start + 100])
        for row, text in enumerate(ROWS[:50])
        for start in range(0, len(text) - 99, 100)
    ]
    assert list(zip(found["documents"], found["texts"], strict=True)) == expected
    again = json.loads(_run(cache, storage, "some/words:plain", pool=50).stdout)
    assert again["before"] == found["declared"] and again["facts"] == found["facts"]


def test_a_locked_commit_is_used_after_the_branch_has_moved(cache: Path, tmp_path: Path) -> None:
    storage = tmp_path / "runs"
    first = json.loads(_run(cache, storage, "some/words:other:train:text").stdout)
    (cache / "hub" / "datasets--some--words" / "refs" / "main").write_text("f" * 40)
    second = json.loads(_run(cache, storage, "some/words:other:train:text").stdout)
    assert second["facts"] == first["facts"] and second["declared"]["commit"] == COMMIT


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        (
            "some/missing",
            ["some/missing", "cannot be reached", "hf download --repo-type dataset some/missing"],
        ),
        ("some/words:plane", ["config plane", "plain"]),
        ("some/words:plain:test", ["split test", "train"]),
        ("some/words:plain:train:txt", ["no column 'txt'", "text, length", "did you mean 'text'"]),
        ("some/words:plain:train:length", ["holds int, expected text"]),
    ],
)
def test_what_is_not_there_is_refused_in_one_message(
    cache: Path, tmp_path: Path, name: str, parts: list[str]
) -> None:
    done = _run(cache, tmp_path / "runs", name)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode != 0 and "RayfitError: --dataset" in last
    for part in parts:
        assert part in last


def test_code_of_a_dataset_is_never_run(cache: Path, tmp_path: Path) -> None:
    snapshot = cache / "hub" / "datasets--some--words" / "snapshots" / COMMIT
    mark = tmp_path / "was-run"
    (snapshot / f"{COMMIT}.py").write_text(f"open({str(mark)!r}, 'w')\n")
    done = _run(cache, tmp_path / "runs", "some/words:plain")
    assert done.returncode != 0 and "never run" in done.stderr.strip().splitlines()[-1]
    assert not mark.exists()


def _files_of_many_rows(folder: Path) -> Path:
    generator = random.Random(0)
    (folder / "plain").mkdir(parents=True)
    for number in range(4):
        rows = ["".join(generator.choices("abcdefghij klmn", k=500)) for _ in range(2000)]
        pl.DataFrame({"text": rows}).write_parquet(folder / "plain" / f"train-{number:05d}.parquet")
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: plain\n  data_files:\n  - split: train\n    path: plain/*.parquet\n---\n"
    )
    return folder


def test_only_the_front_of_a_dataset_is_downloaded(tmp_path: Path) -> None:
    folder = _files_of_many_rows(tmp_path / "files")
    whole = sum(file.stat().st_size for file in folder.rglob("*.parquet"))
    with serving(
        HubServer(Repo(hub_id="some/words", commit=COMMIT, folder=folder, kind="dataset"))
    ) as server:
        done = _run(tmp_path / "cache", tmp_path / "runs", "some/words:plain", pool=30, endpoint=server.url)
        missing = _run(tmp_path / "cache", tmp_path / "runs", "some/nothing", endpoint=server.url)
        revision = _run(tmp_path / "cache", tmp_path / "runs", "some/words@v9:plain", endpoint=server.url)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["declared"]["commit"] == COMMIT and found["facts"]["documents"] == 30
    assert found["texts"][0] == pl.read_parquet(folder / "plain" / "train-00000.parquet")["text"][0][:100]
    assert server.sent_bytes < 0.6 * whole
    assert "the hub has no dataset some/nothing" in missing.stderr.splitlines()[-1]
    assert "no branch, tag or commit 'v9'" in revision.stderr.splitlines()[-1]


def test_a_gated_dataset_says_how_to_get_access(tmp_path: Path) -> None:
    folder = _files_of_many_rows(tmp_path / "files")
    with serving(
        HubServer(Repo(hub_id="some/words", commit=COMMIT, folder=folder, kind="dataset", gated=True))
    ) as server:
        done = _run(tmp_path / "cache", tmp_path / "runs", "some/words:plain", endpoint=server.url)
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert "is gated; ask for access" in last and "hf auth login" in last
    assert server.sent_bytes == 0
