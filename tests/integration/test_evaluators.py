"""Measuring on real Ray actors: the same numbers on one and on four, and what a killed actor costs."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from rayfit.config import Options
from rayfit.console import Console
from rayfit.prepare.prepare import Prepared, prepare
from rayfit.records.storage import Storage
from rayfit.sweep import jobs as jobs_module
from rayfit.sweep.cluster import ray_cluster
from rayfit.sweep.evaluators import EvaluationPool, Job
from rayfit.sweep.jobs import jobs_of
from tests.patience import wait_for
from tests.unit.plan.examples import SWEEP

pytestmark = pytest.mark.integration

OPTIONS: dict[str, Any] = {
    "model": "pydoc-0.5m",
    "scale": "ci",
    "samples": 16,
    "num_updates": 8,
    "contexts": 12,
    "validation_rows": 8,
    "num_new_tokens": 100,
    "decodings": ("greedy", "nucleus", "greedy:block=W0", "matched"),
    "num_cpus": 4,
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with ray_cluster(Options(num_cpus=4)):
        yield


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of five contexts: 5, 5 and 2."""
    whole = jobs_module.evaluation_task

    def in_parts(*arguments: Any) -> Any:
        return dataclasses.replace(whole(*arguments), part_contexts=5)

    monkeypatch.setattr(jobs_module, "evaluation_task", in_parts)


def _prepared(root: Path) -> tuple[Prepared, Storage]:
    """A sweep's storage as it is when training is over. The trial's weights are the original's, rounded a little."""
    import torch
    from safetensors.torch import load_file, save_file

    storage = Storage(root)
    prepared = prepare(SWEEP, Options(storage=str(root), **OPTIONS), storage, Console())
    (trial,) = prepared.plan.trials
    checkpoint = storage.folder("trials", str(trial.id)) / "attempt" / "checkpoint"
    shutil.copytree(prepared.model_paths["pydoc-0.5m"], checkpoint)
    weights = load_file(checkpoint / "model.safetensors")
    weights = {name: (1.5 * tensor).to(torch.bfloat16).float() for name, tensor in weights.items()}
    save_file(weights, checkpoint / "model.safetensors", metadata={"format": "pt"})
    record = {
        "id": trial.id,
        "products": {"checkpoint-fp32": "attempt/checkpoint"},
        "weights_sha256": "x",
        "edition": 1,
    }
    storage.write("trials", str(trial.id), record)
    return prepared, storage


def _statuses(pool: EvaluationPool) -> list[tuple[str, int]]:
    return [(job.status, job.tries) for job in pool.jobs.values()]


def _measure(
    prepared: Prepared,
    storage: Storage,
    num_actors: int,
    look: Callable[[EvaluationPool], None] | None = None,
) -> EvaluationPool:
    pool = EvaluationPool(storage, use_gpu=False, environment={})
    for spec in (*prepared.plan.comparisons, *prepared.plan.evaluations):
        for job in jobs_of(prepared, spec, storage, fresh=False):
            pool.add(job)
    most = 0

    def is_done() -> bool:
        nonlocal most
        pool.step(num_actors)
        most = max(most, pool.num_actors)
        if look is not None:
            look(pool)
        return pool.done

    wait_for(is_done, "the end of every job", partial(_statuses, pool), every=0.05)
    pool.step(0)
    assert most == num_actors
    return pool


def _numbers(storage: Storage) -> dict[str, Any]:
    """Every score and every text of a storage, by id."""
    found: dict[str, Any] = {}
    for kind in ("predictions", "evaluations", "comparisons"):
        for identifier in storage.ids(kind):
            record = storage.read(kind, identifier)
            assert record is not None
            found[identifier] = [record["scores"], record.get("truth"), record.get("series")]
            if "generations" in record:
                folder = storage.folder(kind, identifier)
                found[identifier].append(pl.read_parquet(folder / record["generations"]).to_dicts())
    return found


def test_the_same_numbers_on_one_actor_and_on_four(storage_root: Path, tmp_path: Path, cluster: None) -> None:
    prepared, storage = _prepared(storage_root)
    shutil.copytree(storage_root, tmp_path / "copy")
    again, copy = _prepared_elsewhere(prepared, tmp_path / "copy")
    assert all(job.status == "finished" for job in _measure(prepared, storage, 1).jobs.values())
    _measure(again, copy, 4)
    one, four = _numbers(storage), _numbers(copy)
    # 2 checkpoints' predictions; greedy and nucleus of both, blocked of one, the original matched; one comparison.
    assert len(one) == 2 + 6 + 1
    assert one == four
    assert not list(storage_root.glob("evaluations/*/parts-*"))


def _prepared_elsewhere(prepared: Prepared, root: Path) -> tuple[Prepared, Storage]:
    storage = Storage(root)
    paths = {name: root / path.relative_to(path.parents[1]) for name, path in prepared.model_paths.items()}
    return Prepared(
        prepared.plan, {name: root / "models" / path.name for name, path in paths.items()}
    ), storage


def test_a_killed_actor_costs_its_own_part_only(storage_root: Path, cluster: None) -> None:
    from ray.util.state import list_actors

    prepared, storage = _prepared(storage_root)
    told: dict[str, Any] = {}

    def kill_once(pool: EvaluationPool) -> None:
        done = sorted(storage_root.glob("evaluations/*nucleus*/parts-*/00000.parquet"))
        running = [job for job in pool.jobs.values() if job.status == "running" and job.what == "generate 1"]
        if told or not done or not any("nucleus" in job.key for job in running):
            return
        told["file"], told["made"] = done[0], done[0].stat().st_mtime_ns
        (actor,) = list_actors(filters=[("class_name", "=", "Evaluator"), ("state", "=", "ALIVE")])
        os.kill(actor.pid, signal.SIGKILL)
        told["job"] = next(job for job in running if "nucleus" in job.key)
        told["seen"] = []

    def look(pool: EvaluationPool) -> None:
        kill_once(pool)
        if told and told["file"].exists():
            told["seen"].append(told["file"].stat().st_mtime_ns)

    pool = _measure(prepared, storage, 1, look)
    assert all(job.status == "finished" for job in pool.jobs.values())
    assert told["job"].tries == 2
    others = [job for job in pool.jobs.values() if job is not told["job"]]
    assert {job.tries for job in others} == {1}
    assert set(told["seen"]) == {told["made"]}, "the part that was there is not made again"


def test_what_waits_for_a_failed_job_fails_with_its_reason(storage_root: Path, cluster: None) -> None:
    prepared, storage = _prepared(storage_root)
    (trial,) = prepared.plan.trials
    checkpoint = storage.folder("trials", str(trial.id)) / "attempt" / "checkpoint"
    (checkpoint / "model.safetensors").write_bytes(b"not weights")
    pool = _measure(prepared, storage, 1)
    failed = {job.key: job for job in pool.jobs.values() if job.status == "failed"}
    assert all("cannot be loaded" in job.error for job in failed.values())
    for spec in prepared.plan.evaluations:
        hangs_on_the_trial = spec.subject.trial is not None or spec.matched_to is not None
        assert (spec.id in failed) == hangs_on_the_trial
        assert (storage.read("evaluations", spec.id) is None) == hangs_on_the_trial


def test_a_job_whose_actor_dies_every_time_fails(storage_root: Path, cluster: None) -> None:
    storage = Storage(storage_root)
    pool = EvaluationPool(storage, use_gpu=False, environment={})
    pool.add(Job("deadly", "predict", lambda: _Deadly(), "nowhere"))

    def is_done() -> bool:
        pool.step(1)
        return pool.done

    wait_for(is_done, "the end of the job", partial(_statuses, pool), every=0.05)
    assert pool.jobs["deadly"].status == "failed"
    assert "its evaluator died 3 times" in pool.jobs["deadly"].error


class _Deadly:
    """A task whose reading ends the process, as the kernel does when memory runs out."""

    def __reduce__(self) -> Any:
        return os._exit, (1,)
