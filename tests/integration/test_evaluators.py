"""Measuring on real Ray actors: the same numbers on one and on four, and what a killed actor costs."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from rayfit.config import Options
from rayfit.console import Console
from rayfit.measure.bench import Bench
from rayfit.measure.stage import Stage
from rayfit.measure.stages import stages_of
from rayfit.prepare.prepare import Prepared, prepare
from rayfit.records.storage import Storage
from rayfit.sweep.cluster import ray_cluster
from rayfit.sweep.evaluators import EvaluationPool, Job, jobs_of
from rayfit.sweep.fork_server import ForkServer
from tests.finished import Finished
from tests.patience import wait_for
from tests.processes import descendants
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
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with (tmp_path_factory.mktemp("forks") / "log").open("w") as log:
        server = ForkServer(log)
        try:
            with ray_cluster(Options(num_cpus=4), server):
                yield
        finally:
            server.close()


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
    made = Finished(storage, prepared.plan, prepared=prepared)
    record = made.train(trial)
    product = record.product("checkpoint-fp32")
    assert product is not None
    checkpoint.rename(storage.folder("trials", record.id) / product.path)
    return prepared, storage


def _statuses(pool: EvaluationPool) -> list[tuple[str, int]]:
    return [(job.status, job.tries) for job in pool.jobs.values()]


def _measure(
    prepared: Prepared,
    storage: Storage,
    num_actors: int,
    look: Callable[[EvaluationPool], None] | None = None,
) -> EvaluationPool:
    # Parts of 5, 5 and 2 contexts.
    bench = Bench(storage=storage, model_paths=prepared.model_paths, device="cpu", part_contexts=5)
    pool = EvaluationPool(bench, use_gpu=False, environment={})
    for spec in prepared.plan.measurements:
        for job in jobs_of(stages_of(()), spec, bench):
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
    for kind in storage.measured_kinds:
        for identifier in storage.ids(kind):
            record = storage.measurement(kind, identifier)
            assert record is not None
            folder = storage.folder(kind, identifier)
            frames = [pl.read_parquet(folder / file).to_dicts() for file in record.files.values()]
            found[identifier] = [record.scores, record.series, record.content, record.inputs, frames]
    return found


def test_the_same_numbers_on_one_actor_and_on_four(storage_root: Path, tmp_path: Path, cluster: None) -> None:
    prepared, storage = _prepared(storage_root)
    shutil.copytree(storage_root, tmp_path / "copy")
    again, copy = _prepared_elsewhere(prepared, tmp_path / "copy")
    assert all(job.status == "finished" for job in _measure(prepared, storage, 1).jobs.values())
    _measure(again, copy, 4)
    one, four = _numbers(storage), _numbers(copy)
    # 2 checkpoints' predictions; greedy and nucleus of both, blocked of one, the original matched, each generated and
    # scored; the truth's scores, one comparison and one temperature.
    assert len(one) == 2 + 2 * 6 + 3
    assert one == four
    assert not list(storage_root.glob("generations/*/parts-*"))


def _prepared_elsewhere(prepared: Prepared, root: Path) -> tuple[Prepared, Storage]:
    storage = Storage(root)
    paths = {name: root / path.relative_to(path.parents[1]) for name, path in prepared.model_paths.items()}
    return Prepared(
        prepared.plan, {name: root / "models" / path.name for name, path in paths.items()}
    ), storage


def test_a_killed_actor_costs_its_own_part_only(storage_root: Path, cluster: None) -> None:
    prepared, storage = _prepared(storage_root)
    told: dict[str, Any] = {}

    def kill_once(pool: EvaluationPool) -> None:
        done = sorted(storage_root.glob("generations/*nucleus*/parts-*/00000.parquet"))
        running = [job for job in pool.jobs.values() if job.status == "running" and job.part == 1]
        if told or not done or not any("nucleus" in job.key for job in running):
            return
        told["file"], told["made"] = done[0], done[0].stat().st_mtime_ns
        (actor,) = descendants(os.getpid(), "ray::Evaluator")
        os.kill(actor, signal.SIGKILL)
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
    (checkpoint,) = storage.folder("trials", str(trial.id)).glob("attempt-*/checkpoint")
    (checkpoint / "model.safetensors").write_bytes(b"not weights")
    pool = _measure(prepared, storage, 1)
    failed = {job.key: job for job in pool.jobs.values() if job.status == "failed"}
    assert all("cannot be loaded" in job.error for job in failed.values())
    for spec in prepared.plan.measurements:
        hangs_on_the_trial = spec.trial is not None
        assert (spec.id in failed) == hangs_on_the_trial
        assert (storage.measurement(spec.kind, spec.id) is None) == hangs_on_the_trial


def test_where_cpus_are_shared_one_actor_stays_while_there_is_more_to_come(
    storage_root: Path, cluster: None
) -> None:
    bench = Bench(storage=Storage(storage_root), model_paths={}, device="cpu")
    pool = EvaluationPool(bench, use_gpu=False, environment={}, share_cpus=True)

    def evaluators() -> int:
        return len(descendants(os.getpid(), "ray::Evaluator"))

    wait_for(lambda: evaluators() == 0, "the end of actors of earlier tests", evaluators)
    assert pool.step(0, more=True) == [] and evaluators() == 0
    for _ in range(2):
        assert pool.step(1, more=True) == []
        wait_for(lambda: evaluators() == 1, "the actor that is there before its first job", evaluators)
        assert pool.num_actors == 0, "it holds nothing"
    assert pool.step(1, more=False) == []
    wait_for(lambda: evaluators() == 0, "the actor's end", evaluators)


def test_a_job_whose_actor_dies_every_time_fails(storage_root: Path, cluster: None) -> None:
    bench = Bench(storage=Storage(storage_root), model_paths={}, device="cpu")
    pool = EvaluationPool(bench, use_gpu=False, environment={})
    deadly: Any = _Deadly()
    pool.add(Job("deadly", stages_of(())["predictions"], deadly, "nowhere"))

    def is_done() -> bool:
        pool.step(1)
        return pool.done

    wait_for(is_done, "the end of the job", partial(_statuses, pool), every=0.05)
    assert pool.jobs["deadly"].status == "failed"
    assert "its evaluator died 3 times" in pool.jobs["deadly"].error


def test_after_an_error_of_a_gpu_the_job_is_done_again_in_another_process(
    storage_root: Path, tmp_path: Path, cluster: None
) -> None:
    bench = Bench(storage=Storage(storage_root), model_paths={}, device="cpu")
    pool = EvaluationPool(bench, use_gpu=False, environment={})
    file = tmp_path / "processes"
    poisoned = Stage(kind="poisoned", run=_done, num_parts=lambda *_: 1, run_part=_poisons_its_process)
    spec: Any = file
    pool.add(Job("part", poisoned, spec, "nowhere", part=0))
    pool.add(Job("wrong", replace(poisoned, run_part=_wrong), spec, "nowhere", part=0, needs=("part",)))

    def is_done() -> bool:
        pool.step(1)
        return pool.done

    wait_for(is_done, "the end of the job", partial(_statuses, pool), every=0.05)
    assert (pool.jobs["part"].status, pool.jobs["part"].tries) == ("finished", 2)
    first, second = file.read_text().split()
    assert first != second
    wrong = pool.jobs["wrong"]
    assert (wrong.status, wrong.tries) == ("failed", 1), (
        "an error of ours comes again, so it is not tried again"
    )
    assert "ZeroDivisionError" in wrong.error


def test_without_gpus_asked_for_no_process_of_ray_sees_one(cluster: None) -> None:
    import ray

    look = ray.remote(num_cpus=1)(lambda: os.environ.get("CUDA_VISIBLE_DEVICES"))
    assert ray.get(look.remote()) == ""


def _done(*_: Any) -> Any:
    raise AssertionError("it is asked for a part alone")


def _poisons_its_process(file: Any, bench: Bench, part: int) -> None:
    first = not file.exists()
    with file.open("a") as stream:
        stream.write(f"{os.getpid()} ")
    if first:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")


def _wrong(*_: Any) -> None:
    raise ZeroDivisionError


class _Deadly:
    """A measurement whose reading ends the process, as the kernel does when memory runs out."""

    def __reduce__(self) -> Any:
        return os._exit, (1,)
