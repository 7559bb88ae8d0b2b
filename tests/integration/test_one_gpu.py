"""Training and measuring on one GPU, which Ray is told of and which is not there: who holds it, and who needs none."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from rayfit.measure.bench import Bench
from rayfit.measure.stage import Stage
from rayfit.records.storage import Storage
from rayfit.sweep.evaluators import EvaluationPool, Job
from tests.patience import wait_for

pytestmark = pytest.mark.integration


@pytest.fixture
def one_gpu() -> Iterator[None]:
    import ray

    ray.init(address="local", num_cpus=4, num_gpus=1, include_dashboard=False, log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()


def _says_what_it_sees(file: Any, bench: Bench, part: int) -> None:
    told = os.environ.get("CUDA_VISIBLE_DEVICES", "nothing said")
    Path(f"{file}-{part}").write_text(f"{told} {bench.device}")


def _done(*_: Any) -> Any:
    raise AssertionError("it is asked for a part alone")


def _holds() -> None:
    time.sleep(600)


def test_what_loads_no_model_is_done_while_training_holds_the_gpu(
    one_gpu: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    # As workers of a worker group hold it.
    training = ray.remote(num_cpus=1, num_gpus=1)(_holds).remote()
    pool = EvaluationPool(
        Bench(storage=Storage(tmp_path), model_paths={}, device="cuda"), use_gpu=True, environment={}
    )
    stage = Stage(kind="looks", run=_done, num_parts=lambda *_: 1, run_part=_says_what_it_sees)
    spec: Any = tmp_path / "seen"
    pool.add(Job("generates", stage, spec, "a model", part=0))
    pool.add(Job("scores", stage, spec, "a model", part=1, on_device=False))
    assert pool.num_ready == 1 and pool.waits, "what waits for a GPU"

    def ended(*keys: str) -> bool:
        pool.step(1)
        return all(pool.jobs[key].ended for key in keys)

    def statuses() -> list[tuple[str, str]]:
        return [(job.key, job.status) for job in pool.jobs.values()]

    wait_for(partial(ended, "scores"), "the job that needs no GPU", statuses, every=0.05)
    assert pool.jobs["scores"].status == "finished"
    assert Path(f"{spec}-1").read_text() == " cpu", "it must not see the GPU, or it would take it"
    assert pool.jobs["generates"].status == "running" and not Path(f"{spec}-0").exists()
    assert pool.num_actors == 1
    ray.cancel(training, force=True)
    wait_for(partial(ended, "generates"), "the job that waited for the GPU", statuses, every=0.05)
    assert Path(f"{spec}-0").read_text() == "0 cuda"
    pool.step(0)
    assert pool.num_actors == 0
