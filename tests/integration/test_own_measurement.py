"""A kind of measurement that a script brings, and scores that are mended: what is there already is not made again."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file

from rayfit.records.storage import Storage
from rayfit.track.connection import connect
from tests.launching import ROOT, launch
from tests.unit.test_extending import blocks_of

pytestmark = pytest.mark.integration

OPTIONS = (
    *("--model", "pydoc-0.5m", "--scale", "ci", "--samples", "8", "--num-updates", "16", "--eval-every", "8"),
    *("--contexts", "8", "--validation-rows", "8", "--num-new-tokens", "16", "--num-cpus", "2"),
)
KINDS = ("predictions", "generations", "scores", "comparisons")


def _made(storage: Storage, *kinds: str) -> dict[str, str]:
    """When each measurement of these kinds was made."""
    return {
        identifier: record.finished_at
        for kind in kinds
        for identifier in storage.ids(kind)
        if (record := storage.measurement(kind, identifier)) is not None
    }


def _generated_since(storage: Storage, before: dict[str, str]) -> int:
    """Tokens of all generations that are not as they were."""
    frames = [
        pl.read_parquet(storage.folder("generations", identifier) / record.files["texts"])
        for identifier, made in _made(storage, "generations").items()
        if before.get(identifier) != made
        if (record := storage.measurement("generations", identifier)) is not None
    ]
    return sum(int(frame["token_ids"].list.len().sum()) for frame in frames)


def test_a_kind_of_one_s_own_and_mended_scores(storage_root: Path, tmp_path: Path) -> None:
    storage = Storage(storage_root)
    options = (*OPTIONS, "--storage", storage_root)
    launch(*options)
    before = _made(storage, *KINDS)
    assert _generated_since(storage, {}) == 2 * 8 * 16

    # The page's script: nothing but its own kind is measured, and that reaches table, report and MLflow.
    script = tmp_path / "distance.py"
    code = blocks_of("measurement")[0].body
    assert len(code.splitlines()) <= 40
    script.write_text(code)
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    output = launch(*options, "--arms", "constant updates", script=script, PYTHONPATH=path)
    assert "reused 1, running 0; 1 measurements" in output
    assert _made(storage, *KINDS) == before and _generated_since(storage, before) == 0
    (identifier,) = storage.ids("distances")
    record = storage.measurement("distances", identifier)
    assert record is not None
    found = record.scores["weight_distance"].value
    assert found == pytest.approx(_distance(storage, str(record.trial_id)), rel=1e-6)
    assert "weight distance" in output and f"{found:.2f}" in output
    _it_reaches_everything(storage, found)

    # What every score is computed from is there, so raised scores generate nothing. Raised in a checkout, as they
    # would be: Ray's workers import from where the driver was started before they look at PYTHONPATH.
    mended = tmp_path / "mended"
    for package in ("rayfit", "sweeps"):
        shutil.copytree(ROOT / package, mended / package, ignore=shutil.ignore_patterns("__pycache__"))
    identity = mended / "rayfit" / "identity.py"
    raised = re.sub(r"^SCORE_VERSION = \d+$", "SCORE_VERSION = 999", identity.read_text(), flags=re.M)
    assert raised != identity.read_text()
    identity.write_text(raised)
    script = mended / "sweeps" / "data_quantity.py"
    path = os.pathsep.join((str(mended), path))
    output = launch(*options, script=script, cwd=mended, PYTHONPATH=path)
    assert "reused 1, running 0; 3 measurements" in output
    others = ("predictions", "generations", "comparisons")
    assert _made(storage, *others) == {
        key: made for key, made in before.items() if key not in _scores(storage)
    }
    assert _generated_since(storage, before) == 0
    versions = [storage.measurement("scores", key) for key in storage.ids("scores")]
    assert sorted(record.version for record in versions if record is not None)[-3:] == [999] * 3
    assert len(storage.ids("sweeps")) == 2, "mended scores are of the same sweep"


def _scores(storage: Storage) -> set[str]:
    return set(storage.ids("scores"))


def _distance(storage: Storage, trial_id: str) -> float:
    """Written out: the norm of all changes of all weights."""
    (after,) = storage.folder("trials", trial_id).glob("attempt-*/checkpoint")
    sweep = storage.sweep(storage.ids("sweeps")[0])
    assert sweep is not None
    (before,) = sweep.uses.models
    old = load_file(storage.folder("models", before) / "model.safetensors")
    new = load_file(after / "model.safetensors")
    flat = [(new[name] - old[name]).astype(np.float64).ravel() for name in new]
    return float(np.linalg.norm(np.concatenate(flat)))


def _it_reaches_everything(storage: Storage, found: float) -> None:
    (identifier,) = (each for each in storage.ids("sweeps") if each.startswith("distance-"))
    folder = storage.folder("sweeps", identifier)
    rows = json.loads((folder / "summary.json").read_text())["rows"]
    assert [row.get("weight_distance") for row in rows] == [None, None, found]
    assert pl.read_parquet(folder / "results.parquet")["weight_distance"].to_list() == [None, None, found]
    # In another process, which has never seen the script.
    main = "from rayfit.cli import main; main()"
    command = [sys.executable, "-c", main, "report", identifier, "--storage", str(storage.root)]
    (folder / "report.html").unlink()
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    report = (folder / "report.html").read_text()
    assert "weight distance" in report and f"{found:.2f}" in report and "L2 norm" in report
    markdown = subprocess.run(
        [*command, "--markdown"], check=True, capture_output=True, text=True, cwd=ROOT
    ).stdout
    assert "weight distance" in markdown and f"{found:.2f}" in markdown
    client = connect(None, storage)
    experiment = client.get_experiment_by_name("rayfit/distance")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (trial,) = (run for run in runs if "rayfit.trial_id" in run.data.tags)
    assert trial.data.metrics["weight_distance"] == found
    (parent,) = (run for run in runs if "rayfit.sweep_id" in run.data.tags)
    assert "weight distance" in parent.data.tags["mlflow.note.content"]
