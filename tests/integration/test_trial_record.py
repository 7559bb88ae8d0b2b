"""What a group's workers write of a trial: its record and products, also when it is trained again for more of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest

from rayfit.errors import TrialElsewhere, TrialError
from rayfit.plan.adapters import Adapter
from rayfit.plan.deepspeed import deepspeed_config
from rayfit.plan.order import epochs_of
from rayfit.records.leases import take, trial_lease
from rayfit.records.storage import Storage
from rayfit.records.trial import AboutTrial, Point, TrialRecord, weights
from rayfit.records.trials import product_path
from rayfit.sweep.tasks import trial_task
from rayfit.sweep.training import TrialTraining
from rayfit.sweep.trial import GroupConfig, TrialTask
from rayfit.train.schedule import Schedule
from tests.finished import SCRIPT, Finished
from tests.tiny import random_rows, save_tiny_llama
from tests.unit.plan.examples import plan_of
from tests.workers import run_workers

pytestmark = pytest.mark.integration

ROWS, LENGTH, UPDATES = 12, 24, 8
WORKERS = 2


class _Points:
    """The one method of the trial queue that is called while a trial trains, with Ray's way of calling it."""

    def __init__(self, half_way: Callable[[], object]) -> None:
        self.point = self
        self.updates: list[int] = []
        self._half_way = half_way

    def remote(self, trial_id: str, point: Point) -> None:
        self.updates.append(point.update)
        if point.update == UPDATES // 2:
            self._half_way()


def _task(folder: Path, about: AboutTrial, adapter: str, **changes: Any) -> TrialTask:
    """The task of a trial; `changes` replace its `id`, its `fresh`, or what its schedule says."""
    identifier, fresh = changes.pop("id", "tiny-n12-0123456789ab"), changes.pop("fresh", False)
    schedule = Schedule(
        batch_size=8,
        num_updates=UPDATES,
        learning_rate=2e-3,
        order_seed=0,
        model_path=folder / "model",
        **{"export_dtype": "fp32", **changes},
    )
    named = None if adapter == "none" else adapter
    return TrialTask(
        about=msgspec.structs.replace(about, id=identifier, samples=ROWS, adapter=named),
        schedule=schedule,
        rows_path=folder / "rows.parquet",
        validation_path=folder / "validation.parquet",
        sequence_length=LENGTH,
        num_validation=3,
        eval_every=4,
        wanted=("what no record has",),
        finished_before=None,
        fresh=fresh,
        anew=fresh,
        checkpoint_minutes=5.0,
        checkpoint_every=None,
    )


def _about(folder: Path) -> AboutTrial:
    """What is known of some trial before it is trained."""
    storage = Storage(folder / "elsewhere")
    made = Finished(storage, plan_of(storage))
    return trial_task(made.prepared, made.plan.trials[0], storage, SCRIPT).about


# In this order, in one storage; the first two fields of each step are the adapter and what differs in the task.
STEPS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("none", {}),
    "kept": ("none", {"keep": (3, UPDATES)}),
    "kept more": ("none", {"keep": (5,)}),
    "kept in bf16": ("none", {"keep": (3,), "export_dtype": "bf16"}),
    "other rows": ("none", {"keep": (2,), "exchange": (0, 1)}),
    "fresh": ("none", {"keep": (6,), "fresh": True}),
    "adapter": ("lora-last:rank=2", {"id": "tiny-lora-0123456789ab", "train_seed": 4, "keep": (2,)}),
    "adapter again": ("lora-last:rank=2", {"id": "tiny-lora-0123456789ab", "train_seed": 4, "keep": (4,)}),
    "stopped": ("none", {"id": "tiny-stopped-0123456789ab", "stop_at_train_loss": 100.0}),
    "taken over": ("none", {"id": "tiny-taken-0123456789ab"}),
    "missed": ("none", {"id": "tiny-missed-0123456789ab", "stop_at_train_loss": 0.3}),
}


def _records(folder: Path) -> dict[str, Any]:
    import torch.distributed as dist

    from rayfit.train.engine import build_engine
    from rayfit.train.reset import take_snapshot

    rank = dist.get_rank()
    storage, about = Storage(folder / "runs"), _about(folder / str(rank))
    built: dict[str, Any] = {}
    results: dict[str, Any] = {}
    for name, (text, changes) in STEPS.items():
        adapter = Adapter.parse(text)
        if text not in built:
            settings = deepspeed_config(
                zero_stage=1, precision="fp32", batch_size=8, num_workers=dist.get_world_size()
            )
            engine = build_engine(folder / "model", settings, adapter)
            built[text] = engine, take_snapshot(engine)
        config = GroupConfig(
            group_id="group-launch-1",
            queue="",
            namespace="",
            storage=storage.root,
            model_path=folder / "model",
            deepspeed={},
            adapter=adapter,
            use_gpu=False,
            num_threads=1,
            num_workers=dist.get_world_size(),
            max_restarts=0,
        )
        task = _task(folder, about, text, **changes)
        taken: list[Any] = []

        def take_over(trial_id: str = task.id, taken: list[Any] = taken) -> None:
            taken.append(take(storage, trial_lease(trial_id), "launch", from_same_launch=True))

        queue = _Points(take_over if name == "taken over" else lambda: None)
        try:
            made, _ = TrialTraining(config, task, queue, is_noticed=lambda: False).run(*built[text], None)
            record: Any = made
        except (TrialError, TrialElsewhere) as error:
            record = str(error)
        for holding in taken:
            results["holder"] = holding.is_held
            holding.release()
        if rank == 0:
            folder_now = storage.folder("trials", task.id)
            curves = sorted(folder_now.glob("attempt-*/curve.parquet"), key=lambda file: file.stat().st_mtime)
            results[name] = {
                "record": record,
                "points": queue.updates,
                "curve": pl.read_parquet(curves[-1])["update"].to_list() if curves else None,
                "published": storage.trial(task.id) is not None,
                "attempts": len(list(folder_now.glob("attempt-*"))),
            }
    return results


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("records")
    save_tiny_llama(folder / "model", num_layers=3)
    for name, rows in (("rows", random_rows(ROWS, LENGTH)), ("validation", random_rows(3, LENGTH, seed=1))):
        pl.DataFrame({"token_ids": rows.tolist()}).write_parquet(folder / f"{name}.parquet")
    return folder


@pytest.fixture(scope="module")
def results(folder: Path) -> dict[str, Any]:
    return run_workers(_records, WORKERS, folder)[0]


def _names(record: TrialRecord) -> list[str]:
    return sorted(product.name for product in record.products)


def test_a_trial_without_anything_new_keeps_what_it_kept(results: Any) -> None:
    record = results["plain"]["record"]
    assert _names(record) == ["checkpoint-fp32", "curve-every4-validation3"]
    assert record.kept == {}
    assert results["plain"]["curve"] == results["plain"]["points"] == [0, 4, UPDATES]
    assert record.trainable_parameters == record.parameters
    assert record.adapter is record.adapter_blocks is record.stopped_at_update is None
    assert record.updates_trained == UPDATES
    assert record.deterministic_kernels is None and record.attention in ("eager", "sdpa")


def test_kept_weights_are_products_and_points_of_the_curve(results: Any, folder: Path) -> None:
    record = results["kept"]["record"]
    assert record.weights_sha256 == results["plain"]["record"].weights_sha256
    assert record.product(weights(UPDATES, "fp32").name).path == record.product("checkpoint-fp32").path
    assert results["kept"]["curve"] == [0, 3, 4, UPDATES]
    assert sorted(record.kept) == ["3", str(UPDATES)]
    assert record.kept["3"].point.update == 3
    assert record.kept["3"].point.epoch == epochs_of(3, 8, ROWS)
    assert record.kept["3"].weights_sha256 != record.weights_sha256
    assert record.kept[str(UPDATES)].weights_sha256 == record.weights_sha256


def test_trained_again_for_other_kept_weights_it_has_both(results: Any) -> None:
    record = results["kept more"]["record"]
    assert record.weights_sha256 == results["plain"]["record"].weights_sha256
    assert record.kept_updates == [3, 5, UPDATES]
    assert sorted(record.kept) == ["3", "5", str(UPDATES)]
    assert results["kept more"]["curve"] == [0, 3, 4, 5, UPDATES], "a point for all that is kept"
    assert results["kept more"]["attempts"] == 2
    rounded = results["kept in bf16"]["record"]
    assert rounded.kept == record.kept | {"3": rounded.kept["3"]}
    assert rounded.kept["3"].weights_sha256 == record.kept["3"].weights_sha256
    assert rounded.product(weights(3, "bf16").name) and rounded.product(weights(3, "fp32").name)


def test_other_weights_under_the_same_id_are_refused(results: Any) -> None:
    assert "other weights" in results["other rows"]["record"]


def test_workers_whose_trial_was_taken_over_publish_nothing(results: Any) -> None:
    taken = results["taken over"]
    assert taken["record"] == "another launch has taken it over" and taken["points"] == [0, 4, UPDATES]
    assert not taken["published"] and taken["curve"] is None
    assert results["holder"], "the lease is the other's to give back"
    assert results["plain"]["published"]


def test_fresh_keeps_only_what_it_made(results: Any, folder: Path) -> None:
    record = results["fresh"]["record"]
    assert sorted(record.kept) == ["6"] and results["fresh"]["curve"] == [0, 4, 6, UPDATES]
    assert results["fresh"]["attempts"] == 1 and record.edition == 2
    path = product_path(Storage(folder / "runs"), record, record.product(weights(6, "fp32").name))
    assert (path / "model.safetensors").exists()


def test_an_adapter_s_record_says_what_was_trained(results: Any) -> None:
    record = results["adapter"]["record"]
    assert record.adapter == "lora-last:rank=2"
    assert record.adapter_blocks == (2,)  # ceil(5/22 of 3) is 1
    assert record.trainable_parameters == 4 * 2 * (32 + 32) + 3 * 2 * (32 + 64)
    assert record.parameters == results["plain"]["record"].parameters
    again = results["adapter again"]["record"]
    assert again.weights_sha256 == record.weights_sha256
    assert sorted(again.kept) == ["2", "4"]
    assert results["adapter again"]["curve"] == [0, 2, 4, UPDATES]


def test_a_record_says_where_training_stopped_or_why_not(results: Any) -> None:
    stopped, missed = results["stopped"]["record"], results["missed"]["record"]
    assert (stopped.stopped_at_update, stopped.updates_trained) == (2, 2)  # the end of the first epoch
    assert stopped.final.update == 2 and stopped.final.train_rows == ROWS
    assert stopped.stopped_at_update_reason is None
    assert results["stopped"]["curve"] == [0, 2]
    assert (missed.stopped_at_update, missed.updates_trained) == (None, UPDATES)
    assert "0.3 was not reached in 8 updates" in missed.stopped_at_update_reason
