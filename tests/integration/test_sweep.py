"""Sweeps in real processes on a real Ray: failures, kills, interrupts, several workers, real weights and text."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from rayfit.records.states import all_states, kept_points
from rayfit.records.storage import Storage
from rayfit.track.connection import connect
from tests.launching import ROOT, SMALL, launch, start, summary, trial_records
from tests.patience import cpu_seconds, files_of, finish, wait_for
from tests.processes import children, descendants
from tests.unit.test_gpu_memory import TOLD

pytestmark = pytest.mark.integration

SHORT = (*SMALL, "--num-updates", "48", "--eval-every", "24", "--contexts", "8", "--validation-rows", "8")


SWEEP = """
from rayfit import Sweep, sweep_main

grid = {grid!r}
SWEEP = Sweep(
    kind={kind!r},
    question="Which of them?",
    source="a test",
    varies={varies!r},
    scales={{"ci": grid, "laptop": grid, "paper": grid}},
)
if __name__ == "__main__":
    sweep_main(SWEEP, __file__)
"""


def _script(folder: Path, kind: str, varies: str, **grid: object) -> Path:
    """A sweep's script that varies the samples and one thing more."""
    file = folder / f"{kind}.py"
    file.write_text(SWEEP.format(kind=kind, varies=("samples", varies), grid={**grid, "num_updates": 48}))
    return file


# Python runs it at the start of every process that finds it on its path: `before` is done before every update of a trial.
PATCHED_WORKERS = """
import importlib.util, sys, time

class Patched:
    def find_spec(self, name, path, target=None):
        if name != "rayfit.train.loop":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module

        def patched(module):
            load(module)
            run = module.run_update
            def run_update(engine, task, update, *arguments, **options):
                {before}
                return run(engine, task, update, *arguments, **options)
            module.run_update = run_update

        spec.loader.exec_module = patched
        return spec

sys.meta_path.insert(0, Patched())
"""


def _patched(folder: Path, before: str) -> str:
    """A PYTHONPATH on which workers do something before every update."""
    (folder / "patched").mkdir()
    (folder / "patched" / "sitecustomize.py").write_text(PATCHED_WORKERS.format(before=before))
    return os.pathsep.join(filter(None, (str(folder / "patched"), os.environ.get("PYTHONPATH"))))


def test_out_of_memory_is_said_at_once_and_other_kinds_go_on(storage_root: Path, tmp_path: Path) -> None:
    path = _patched(
        tmp_path,
        f"if task.schedule.batch_size == 8 and update == 2: import torch; raise torch.OutOfMemoryError({TOLD!r})",
    )
    script = _script(
        tmp_path, "batches", "batch_size", samples=(8, 16), batch_size=(4, 8), learning_rate=3e-3
    )
    options = ("--storage", storage_root, "--num-cpus", "1")
    output = launch(*SHORT, *options, script=script, status=1, PYTHONPATH=path)
    trained = [row for row in summary(storage_root) if row["who"] == "trained"]
    assert {(row["batch_size"], row["status"]) for row in trained} == {(4, "FINISHED"), (8, "FAILED")}
    failed = [row for row in trained if row["batch_size"] == 8]
    said = (
        "out of GPU memory in training: 2.00 GiB more asked for, 1.19 GiB of 23.64 GiB free; --zero-stage 3"
    )
    assert len(failed) == 2 and all(said in row["reason"] for row in failed)
    assert said in output and "died" not in output
    logs = [file.read_text() for file in storage_root.glob("trials/*/logs/rank0.log")]
    assert sorted(log.count(" in group ") for log in logs) == [1, 1, 1], (
        "one start of the first, none of the second"
    )
    assert len(list(storage_root.glob("logs/groups/*-rank0.log"))) == 2


def test_a_failing_trial_beside_a_good_one(storage_root: Path, tmp_path: Path) -> None:
    script = _script(tmp_path, "rates", "learning_rate", samples=(8,), learning_rate=(3e-3, 1e30))
    # The failing trial takes long enough for MLflow to be told of it while it is under way, as on a slow machine.
    path = _patched(tmp_path, "if task.schedule.learning_rate > 1: time.sleep(7)")
    # One group for both, so that the good trial, which comes second in a repeat, runs in an engine that has failed.
    common = (*SHORT, "--storage", storage_root, "--num-cpus", "2")
    output = launch(*common, script=script, status=1, PYTHONPATH=path)
    rows = {row["learning_rate"]: row for row in summary(storage_root) if row["who"] == "trained"}
    assert rows[3e-3]["status"] == "FINISHED" and rows[3e-3]["ttr_last_96"] is not None
    failed = rows[1e30]
    assert failed["status"] == "FAILED" and failed["ttr_last_96"] is None
    assert re.search(
        r"not finite (at|after) update \d+ of 48|loss is (nan|inf) at update \d+ of 48", failed["reason"]
    )
    assert failed["reason"] in output
    log = next(storage_root.glob(f"trials/{failed['trial_id']}/logs/rank0.log")).read_text()
    assert "failed" in log
    assert not list(storage_root.glob(f"trials/{failed['trial_id']}/attempt-*"))
    assert _seen_under_way(storage_root, failed["trial_id"]) == 1
    again = launch(*common, script=script, status=1, PYTHONPATH=path)
    assert "reused 1, running 1" in again
    assert _seen_under_way(storage_root, failed["trial_id"]) == 1
    _mlflow_says(storage_root, {"FINISHED": 2, "FAILED": 2})


def _mlflow_says(root: Path, statuses: dict[str, int]) -> None:
    """Run statuses over the sweep's parent, original and trials."""
    client = connect(None, Storage(root))
    experiment = client.get_experiment_by_name("rayfit/rates")
    found: dict[str, int] = {}
    for run in client.search_runs([experiment.experiment_id]):
        found[run.info.status] = found.get(run.info.status, 0) + 1
    assert found == statuses


def _seen_under_way(root: Path, trial_id: str) -> int:
    """How many runs of a trial MLflow was told of while it was trained."""
    client = connect(None, Storage(root))
    experiment = client.get_experiment_by_name("rayfit/rates")
    query = f"tags.`rayfit.trial_id` = '{trial_id}'"
    runs = client.search_runs([experiment.experiment_id], query)
    return sum("rayfit.live_since" in run.data.tags for run in runs)


def _live_runs(root: Path) -> list[Any]:
    """Trials' runs in MLflow that are under way and have a point of their curve."""
    if not (root / "mlflow.db").exists():
        return []
    client = connect(None, Storage(root))
    found = client.get_experiment_by_name("rayfit/data_quantity")
    runs = client.search_runs([found.experiment_id]) if found else []
    return [run for run in runs if run.info.status == "RUNNING" and "curve/train_loss" in run.data.metrics]


def test_an_interrupted_sweep_goes_on_where_it_was(storage_root: Path) -> None:
    options = (
        *SMALL,
        "--samples",
        "8,16,32",
        "--num-updates",
        "96",
        "--contexts",
        "8",
        "--validation-rows",
        "8",
        "--checkpoint-every",
        "20",
    )
    options = (*options, "--storage", storage_root, "--num-cpus", "2")
    killed = _kill_the_driver(storage_root, *options)
    process = start(*options)
    try:
        signs = partial(files_of, storage_root)
        wait_for(lambda: _live_runs(storage_root), "a curve in MLflow while training goes on", signs)
        wait_for(lambda: len(trial_records(storage_root)) > len(killed), "one more finished trial", signs)
        wait_for(lambda: _is_halfway(storage_root), "another trial halfway", signs)
        process.send_signal(signal.SIGINT)
        output = finish(process, storage_root)
    finally:
        process.kill()
    assert process.returncode == 130, output
    assert "interrupted" in output and str(storage_root) in output and "Traceback" not in output
    assert not _live_runs(storage_root), "the launch's end ends its runs"
    kept = _digests(storage_root)
    assert killed.items() <= kept.items()
    output = launch(*options)
    assert f"reused {len(kept)}, running {3 - len(kept)}" in output
    digests = _digests(storage_root)
    assert sorted(digests) == [8, 16, 32] and kept.items() <= digests.items()
    assert [row["status"] for row in summary(storage_root)] == ["FINISHED"] * 5
    assert _rayfit("list", "sweeps", storage=storage_root).endswith("3 of 3 trials, 3 launches\n")

    # What a finished trial lacks, a denser curve, is made by training it again, to the bits of one that went on.
    samples = max(samples for samples, record in trial_records(storage_root).items() if record.stretches)
    before = trial_records(storage_root)[samples]
    assert [stretch.after >= 20 for stretch in before.stretches] == [False, True]
    output = launch(*options, "--samples", samples, "--eval-every", "12")
    assert "reused 0, running 1" in output
    after = trial_records(storage_root)[samples]
    assert after.stretches == ()
    assert _digests(storage_root) == digests and after.edition == 1
    names = [{product.name for product in record.products} for record in (before, after)]
    assert names[0] < names[1]
    for product in after.products:
        assert (storage_root / "trials" / after.id / product.path).exists()


def _is_halfway(root: Path) -> bool:
    """Whether a trial that has no record yet has a point after its state."""
    storage = Storage(root)
    unfinished = {path.name for path in (root / "trials").iterdir()} - set(storage.ids("trials"))
    return any(max(kept_points(storage, trial_id), default=0) >= 40 for trial_id in unfinished)


def _kill_the_driver(root: Path, *options: object) -> dict[int, str]:
    """Start a sweep and kill its driver, which has no time to write anything; what it left has its place all the same."""
    process = start(*options)
    try:
        wait_for(lambda: trial_records(root), "a finished trial", partial(files_of, root))
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
    left = _digests(root)
    listed = _rayfit("list", "sweeps", storage=root)
    assert f"{len(left)} of 3 trials, 1 launches, runs or was killed" in listed
    (report,) = _rayfit("report", storage=root).splitlines()
    assert "not evaluated yet" in Path(report).read_text()
    assert "runs created" in _rayfit("sync", storage=root)
    client = connect(None, Storage(root))
    experiment = client.get_experiment_by_name("rayfit/data_quantity")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = (run for run in runs if "rayfit.sweep_id" in run.data.tags)
    assert parent.info.status == "KILLED"
    in_mlflow = {run.data.tags.get("rayfit.trial_id") for run in runs}
    assert {record.id for record in trial_records(root).values()} <= in_mlflow
    return left


def _rayfit(*words: str, storage: Path) -> str:
    main = "from rayfit.cli import main; main()"
    command = [sys.executable, "-c", main, *words, "--storage", str(storage)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_two_workers_at_stage_3_a_used_group_and_what_is_killed(storage_root: Path) -> None:
    """Two trials one after another in a group, then each in a group of its own: one loses a worker, one its controller."""
    options = (
        *SHORT,
        "--samples",
        "8,16",
        "--num-workers",
        "2",
        "--zero-stage",
        "3",
        "--storage",
        storage_root,
    )
    launch(*options)
    records, digests = trial_records(storage_root), _digests(storage_root)
    overheads = [records[samples].overhead_seconds for samples in (8, 16)]
    assert records[8].worker_group == records[16].worker_group
    assert [overhead for overhead in overheads if overhead is not None], (
        "one of the two trials had a used group"
    )
    assert all(overhead is None or 0 <= overhead < 1.0 for overhead in overheads)

    process = start(*options, "--trials-per-group", "1", "--fresh", "--checkpoint-every", "5")
    try:
        signs = partial(files_of, storage_root)
        log = wait_for(lambda: _log_of_a_second_attempt(storage_root), "a state of a trial under way", signs)
        os.kill(int(re.findall(r"process (\d+)", log.read_text())[-1]), signal.SIGKILL)
        other = wait_for(
            lambda: _log_of_a_second_attempt(storage_root, log), "a state of the other trial", signs
        )
        # What it holds is held until somebody frees it, and there is no room for another group beside it.
        (controller,) = descendants(process.pid, "ray::TrainController")
        os.kill(controller, signal.SIGKILL)
        output = finish(process, storage_root)
    finally:
        process.kill()
    assert process.returncode == 0, output
    for each in (log, other):
        assert each.read_text().count(" in group ") == 3, "once before, killed, and served once more"
    assert output.count("ended with an error") == 1
    assert not _live_runs(storage_root), "the sweep's end ends its runs"
    isolated = trial_records(storage_root)
    assert isolated[8].worker_group != isolated[16].worker_group
    assert [isolated[samples].edition for samples in (8, 16)] == [2, 2]
    assert _digests(storage_root) == digests
    for record in isolated.values():
        assert [stretch.after > 0 for stretch in record.stretches] == [False, True], "it went on from a state"
        assert not list((storage_root / "trials" / record.id).glob("states"))
    assert output.count("its training was cut off; it is trained on, from its state after update") == 2


def _log_of_a_second_attempt(root: Path, other_than: Path | None = None) -> Path | None:
    """The log of the second rank of a trial that was trained before and is under way again, with a whole state."""
    for attempt in root.glob("trials/*/attempt-*"):
        log = attempt.parent / "logs" / "rank1.log"
        again = log != other_than and log.exists() and log.read_text().count(" in group ") == 2
        if again and all_states(Storage(root), attempt.parent.name):
            return log
    return None


def _digests(root: Path) -> dict[int, str]:
    """Hashes of the trained weights, by the number of samples."""
    return {samples: record.weights_sha256 for samples, record in trial_records(root).items()}


def test_real_weights_and_real_prose(shared: Path, tmp_path: Path) -> None:
    storage = tmp_path / "runs"
    model, dataset = shared / "models" / "stories260K", shared / "data" / "fiction.parquet"
    options = ("--model", model, "--dataset", dataset, "--samples", "16,128", "--num-updates", "320")
    launch(*options, "--learning-rate", "3e-3", "--storage", storage)
    truth, original, few, many = summary(storage)
    assert original["ttr_last_96"] < many["ttr_last_96"] and few["ttr_last_96"] > 0.5
    assert many["validation_loss"] > original["validation_loss"] + 1.5
    assert many["entropy_nats"] < original["entropy_nats"] - 0.5
    assert 0.5 < truth["ttr_last_96"] < 0.7
    (file,) = storage.glob("generations/*original*/texts*.parquet")
    generations = pl.read_parquet(file)
    assert generations["token_ids"].list.len().unique().to_list() == [96]
    assert not generations["text"].str.contains("<s>|</s>").any(), "special ids are suppressed"


def test_two_processes_make_the_embedded_model_and_one_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys; from rayfit.records.storage import Storage;"
        "from rayfit.plan.sources import resolve_model; from rayfit.prepare.made_models import made_model;"
        "from rayfit.console import Console;"
        "s = Storage(sys.argv[1]);"
        "print(made_model(resolve_model('pydoc-0.5m', 'main', s), s, Console()), flush=True)"
    )
    (tmp_path / "main.py").write_text(f"if __name__ == '__main__':\n    exec({code!r})\n")
    command = [sys.executable, str(tmp_path / "main.py"), str(tmp_path / "runs")]
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True)
        for _ in range(2)
    ]
    try:
        storage = tmp_path / "runs" / "models"

        def signs() -> int:
            return cpu_seconds(pid for process in processes for pid in (process.pid, *children(process.pid)))

        wait_for(lambda: list(storage.glob(".*.tmp")), "the maker's folder", signs)
        # The maker is the one that has started a process of its own to train in; the other waits for the lock.
        maker = wait_for(lambda: [p for p in processes if len(children(p.pid)) > 1], "the maker", signs)[0]
        other = next(process for process in processes if process is not maker)
        os.killpg(maker.pid, signal.SIGKILL)
        output = finish(other, tmp_path / "runs")
    finally:
        for process in processes:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
    assert other.returncode == 0 and "made pydoc-0.5m" in output
    (record,) = storage.glob("*/record.json")
    assert json.loads(record.read_text())["updates"] == 300
    assert (record.parent / "model.safetensors").exists()
