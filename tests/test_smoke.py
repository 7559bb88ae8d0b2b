"""The main job, as a newcomer runs it, small: from nothing to a comparison in MLflow, without a compiler."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from rayfit.records.storage import Storage
from tests.conftest import with_the_model
from tests.launching import SMALL, launch, summary, trial_records

pytestmark = pytest.mark.smoke

# Python runs it at the start of a process that finds it on its path.
TELLS_ITS_MODULES = """
import atexit, pathlib, sys
atexit.register(lambda: pathlib.Path("{file}").write_text(" ".join(sys.modules)))
"""

COLUMNS = [
    "who",
    "trial_id",
    "decoding",
    "domain",
    "status",
    "reason",
    "samples",
    "updates",
    "epochs",
    "train_loss",
    "train_accuracy",
    "validation_loss",
    "entropy_nats",
    "ttr_last_96",
    "longest_overlap_mean",
    "original_longest_overlap_mean",
    "minutes",
    "overhead_seconds",
]


def _path_without_compiler(folder: Path) -> str:
    """A PATH on which git is, and no compiler, ninja or CUDA is."""
    folder.mkdir()
    for tool in ("bash", "env", "git", "sh", "uname", "ps", "which"):  # Ray starts some workers through bash
        if found := shutil.which(tool):
            (folder / tool).symlink_to(found)
    assert not any(
        shutil.which(name, path=str(folder)) for name in ("cc", "gcc", "g++", "clang", "ninja", "nvcc")
    )
    return str(folder)


def test_a_sweep_from_an_empty_storage_to_mlflow(made: Path, tmp_path: Path) -> None:
    storage_root = with_the_model(made, tmp_path / "runs")
    environment = {"PATH": _path_without_compiler(tmp_path / "bin"), "CC": "", "CXX": ""}
    output = launch(*SMALL, "--storage", storage_root, **environment)
    assert "2 trials: reused 0, running 2" in output
    rows = summary(storage_root)
    assert [row["who"] for row in rows] == ["truth", "original", "trained", "trained"]
    assert all(set(COLUMNS) <= set(row) and row["status"] == "FINISHED" for row in rows)
    truth, original, few, more = rows
    assert [few["samples"], more["samples"]] == [8, 32]
    assert original["ttr_last_96"] < 0.3 < 0.4 < min(few["ttr_last_96"], more["ttr_last_96"])
    for row in (few, more):
        assert row["validation_loss"] > original["validation_loss"] + 1
        assert row["entropy_nats"] < original["entropy_nats"] - 1
        assert row["train_loss"] < 0.2 and row["train_accuracy"] > 0.95
        assert row["longest_overlap_mean"] > row["original_longest_overlap_mean"]
    assert truth["train_loss"] is None and original["longest_overlap_mean"] is None
    _checkpoint_loads_without_us(storage_root)
    runs = _mlflow_runs(storage_root)
    assert len(runs) == 4  # the sweep, the original model, two trials

    (tmp_path / "watched").mkdir()
    (tmp_path / "watched" / "sitecustomize.py").write_text(
        TELLS_ITS_MODULES.format(file=tmp_path / "modules")
    )
    path = os.pathsep.join(filter(None, (str(tmp_path / "watched"), os.environ.get("PYTHONPATH"))))
    again = launch(*SMALL, "--storage", storage_root, PYTHONPATH=path)
    assert "reused 2, running 0" in again
    imported = set((tmp_path / "modules").read_text().split())
    assert "rayfit.sweep.driver" in imported
    assert not imported & {"torch", "transformers", "ray", "mlflow", "matplotlib"}, "nothing is done twice"
    assert summary(storage_root) == rows
    assert sorted(run.info.run_id for run in _mlflow_runs(storage_root)) == sorted(
        run.info.run_id for run in runs
    )


def _checkpoint_loads_without_us(storage: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    record = trial_records(storage)[32]
    product = record.product("checkpoint-fp32")
    assert product is not None
    folder = storage / "trials" / record.id / product.path
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert sum(parameter.numel() for parameter in model.parameters()) == record.model.parameters
    assert (
        tokenizer.decode(tokenizer("Return the list.")["input_ids"], skip_special_tokens=True)
        == "Return the list."
    )
    assert not list(folder.glob("*.bin")) and not list(folder.glob("*.pt"))


def _mlflow_runs(root: Path) -> list:
    from rayfit.track.connection import connect, default_tracking_uri

    storage = Storage(root)
    client = connect(default_tracking_uri(storage), storage)
    (experiment,) = [e for e in client.search_experiments() if e.name.startswith("rayfit/")]
    runs = list(client.search_runs([experiment.experiment_id]))
    for record in trial_records(root).values():
        (run,) = [run for run in runs if run.data.tags.get("rayfit.trial_id") == record.id]
        curve = client.get_metric_history(run.info.run_id, "curve/validation_loss")
        assert curve[0].step == 0 and curve[-1].step == record.num_updates and len(curve) == 14
        assert curve[-1].value == pytest.approx(record.final.validation_loss)
        assert "mlflow.parentRunId" in run.data.tags
    assert os.path.exists(root / "mlflow.db")
    return runs
