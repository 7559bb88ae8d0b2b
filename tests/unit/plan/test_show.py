from __future__ import annotations

from pathlib import Path

import pytest

from rayfit.plan.show import checkpoint_bytes, render_plan
from rayfit.records.storage import Storage
from tests.finished import Finished
from tests.unit.plan.examples import plan_of, write_model


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "runs")


def test_a_plan_shows_every_trial_and_what_it_costs(storage: Storage) -> None:
    plan = plan_of(storage, samples=(8, 32), num_workers=4)
    text = render_plan(plan, storage)
    for trial in plan.trials:
        (line,) = (line for line in text.splitlines() if line.startswith(str(trial.id)))
        cells = line.split()
        assert cells[1:4] == [str(trial.selection.samples), "0", "100"]
        assert float(cells[4]) == 100 * 8 / trial.selection.samples
        assert "4.1 MiB" in line and "4 CPU" in line and "GPU" not in line
    for part in ("learning rate 0.001", "batch 8", "bf16", "256 tokens", "10 contexts", "20 validation rows"):
        assert part in text
    assert str(storage.root) in text


def test_the_disk_a_checkpoint_takes_is_that_of_its_numbers(storage: Storage) -> None:
    plan, half = plan_of(storage), plan_of(storage, export_dtype="bf16")
    assert checkpoint_bytes(plan, plan.trials[0]) == 4 * 1_066_112
    assert checkpoint_bytes(half, half.trials[0]) == 2 * 1_066_112
    kept = plan_of(
        storage, keep_every=25.0
    )  # 8 rows, 100 updates of 8: 100 epochs, three times before the last
    assert checkpoint_bytes(kept, kept.trials[0]) == 4 * 4 * 1_066_112


def test_gpus_are_shown_where_they_are_asked_for(storage: Storage) -> None:
    assert "2 CPU, 2 GPU" in render_plan(plan_of(storage, use_gpu=True, num_workers=2), storage)


def test_a_finished_trial_is_marked_when_it_has_every_product_that_is_wanted(storage: Storage) -> None:
    def is_marked(**changes: object) -> bool:
        plan = plan_of(storage, **changes)
        lines = render_plan(plan, storage).splitlines()
        return next(line for line in lines if line.startswith(str(plan.trials[0].id))).endswith("finished")

    assert not is_marked()
    made = Finished(storage, plan_of(storage))
    made.train(made.plan.trials[0])
    assert is_marked() and is_marked(eval_every=17) and is_marked(num_workers=2)
    assert not is_marked(export_dtype="bf16")
    assert not is_marked(eval_every=10)
    # The curve is over 16 validation rows, where there are as many.
    assert is_marked(validation_rows=21) and not is_marked(validation_rows=15)


def test_what_is_not_known_without_work_is_pending(storage: Storage, tmp_path: Path) -> None:
    model = write_model(tmp_path / "tiny")
    text = render_plan(plan_of(storage, model=str(model), dataset="pydoc"), storage)
    assert "tiny-pydoc-n8-u100-lr0.001-s0 (id pending)" in text
    assert "ids are pending" in text
    hub = render_plan(plan_of(storage, model="someone/model", dataset="pydoc"), storage)
    assert "unknown" in hub  # the disk


def test_a_stage_that_runs_as_another_is_noted(storage: Storage) -> None:
    text = render_plan(plan_of(storage, zero_stage=0), storage)
    assert "ZeRO stage 1" in text and "note: bf16 at ZeRO stage 0 runs as stage 1" in text
    assert "runs as stage 1" not in render_plan(plan_of(storage, zero_stage=0, precision="fp32"), storage)


def test_that_the_embedded_model_knows_its_training_rows_is_noted(storage: Storage) -> None:
    assert "was pretrained on" in render_plan(plan_of(storage), storage)
    hub = plan_of(storage, model="someone/model", dataset="pydoc")
    assert "was pretrained on" not in render_plan(hub, storage)
