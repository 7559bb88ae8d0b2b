"""Training that stops at a loss, exchanges two rows, or keeps weights along the way, against trainings without it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rayfit.plan.deepspeed import deepspeed_config
from rayfit.plan.order import exchanged_epochs
from tests.tiny import random_rows, save_tiny_llama
from tests.workers import run_workers

pytestmark = pytest.mark.integration

ROWS, BATCH, UPDATES = 20, 8, 12
EPOCH = 3  # updates: ceil(20 / 8)
STAGES = (0, 3)


def _task(model_path: Path, folder: Path, **changes: Any) -> Any:
    from rayfit.train.loop import TrainTask
    from rayfit.train.schedule import Schedule

    task = TrainTask(
        schedule=Schedule(
            batch_size=BATCH,
            num_updates=UPDATES,
            learning_rate=2e-3,
            order_seed=1,
            model_path=model_path,
            export_dtype="fp32",
        ),
        train_ids=random_rows(ROWS, 24),
        validation_ids=random_rows(ROWS, 24, seed=9),  # as many: the curve is then over all training rows
        measured_updates=tuple(range(UPDATES + 1)),
        checkpoint_path=folder / "checkpoint",
    )
    measured = changes.pop("measured_updates", task.measured_updates)
    return replace(task, schedule=replace(task.schedule, **changes), measured_updates=measured)


def _trainings(model_path: Path, folder: Path) -> list[dict[str, Any]]:
    """In a worker, per stage: the losses of a plain training, and what the others gave."""
    import torch.distributed as dist

    from rayfit.train.engine import build_engine
    from rayfit.train.loop import train_trial
    from rayfit.train.reset import take_snapshot

    results = []
    for stage in STAGES:
        config = deepspeed_config(
            zero_stage=stage, precision="fp32", batch_size=BATCH, num_workers=dist.get_world_size()
        )
        engine = build_engine(model_path, config)
        snapshot = take_snapshot(engine)
        place = folder / str(stage)

        def train(
            name: str, engine: Any = engine, snapshot: Any = snapshot, place: Path = place, **changes: Any
        ) -> Any:
            points: list[Any] = []
            result = train_trial(engine, snapshot, _task(model_path, place / name, **changes), points.append)
            return result, points

        plain, curve = train("plain")
        losses = [point.train_loss for point in curve]
        box = [losses]  # rank 0's only: no other reports points
        dist.broadcast_object_list(box, src=0)
        losses = box[0]
        sparse = {"measured_updates": (0, 5, UPDATES)}
        results.append(
            {
                "losses": losses,
                "plain": plain,
                "kept": train("kept", keep=(2, 7, UPDATES))[0],
                "by_length": {n: train(f"of-{n}", num_updates=n)[0].weights_sha256 for n in (2, 7, 6, 9)},
                "stopped": train("stopped", stop_at_train_loss=losses[6]),
                "stopped_sparse": train("sparse", stop_at_train_loss=losses[6], **sparse),
                "between": train("between", stop_at_train_loss=(losses[6] + losses[9]) / 2),
                "last": train("last", stop_at_train_loss=losses[10] - 1e-6, num_updates=10, **sparse),
                "missed": train("missed", stop_at_train_loss=losses[UPDATES] - 0.01),
                "exchanged": train("exchanged", exchange=(0, 1))[0].weights_sha256,
                "exchanged_back": train("back", exchange=(1, 0))[0].weights_sha256,
            }
        )
    return results


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("along")


@pytest.fixture(scope="module")
def trainings(folder: Path) -> list[list[dict[str, Any]]]:
    model_path = save_tiny_llama(folder / "model")
    return run_workers(_trainings, 2, model_path, folder)


def _each(trainings: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return [result for worker in trainings for result in worker]


def test_weights_kept_along_the_way_are_those_of_a_shorter_training(trainings: Any) -> None:
    for result in _each(trainings):
        kept = result["kept"]
        assert kept.weights_sha256 == result["plain"].weights_sha256
        assert {update: each.weights_sha256 for update, each in kept.kept.items()} == {
            2: result["by_length"][2],
            7: result["by_length"][7],
            UPDATES: result["plain"].weights_sha256,
        }
        assert result["plain"].kept == {}
        assert kept.updates == UPDATES and kept.stopped_at_update is None


def test_kept_weights_load_as_a_checkpoint_does(trainings: Any, folder: Path) -> None:
    from transformers import AutoModelForCausalLM

    from rayfit.train.directory import weights_digest

    for stage, result in zip(STAGES, trainings[0], strict=True):
        place = folder / str(stage) / "kept"
        assert sorted(path.name for path in place.iterdir()) == ["checkpoint", "weights-2", "weights-7"]
        model = AutoModelForCausalLM.from_pretrained(place / "weights-7")
        assert weights_digest(dict(model.named_parameters())) == result["kept"].kept[7].weights_sha256


def test_training_stops_at_the_first_end_of_an_epoch_where_the_loss_is_reached(trainings: Any) -> None:
    for result in _each(trainings):
        losses = result["losses"]
        first = next(u for u in range(EPOCH, UPDATES + 1, EPOCH) if losses[u] <= losses[6])
        assert first == 6, "the losses of this test fall"
        stopped, points = result["stopped"]
        assert (stopped.stopped_at_update, stopped.updates) == (6, 6)
        assert stopped.weights_sha256 == result["by_length"][6] != result["plain"].weights_sha256
        between, _ = result["between"]
        assert between.stopped_at_update == 9  # update 7 or 8 may have been below it already
        assert between.weights_sha256 == result["by_length"][9]
        if points:  # rank 0
            assert [point.update for point in points] == list(range(7))
            assert points[-1].train_loss == losses[6]


def test_where_training_stops_does_not_depend_on_where_it_is_measured(trainings: Any) -> None:
    for result in _each(trainings):
        stopped, points = result["stopped_sparse"]
        assert stopped.weights_sha256 == result["by_length"][6]
        if points:
            assert [point.update for point in points] == [0, 5, 6]
            assert points[-1].train_rows == ROWS and points[-1].gradient_norm > 0


def test_a_loss_that_is_not_reached_ends_at_the_last_update(trainings: Any) -> None:
    for result in _each(trainings):
        missed, _ = result["missed"]
        assert (missed.stopped_at_update, missed.updates) == (None, UPDATES)
        assert missed.weights_sha256 == result["plain"].weights_sha256
        last, points = result["last"]
        assert (last.stopped_at_update, last.updates) == (None, 10)
        if points:
            assert points[-1].update == 10


def test_two_exchanged_rows_give_other_weights(trainings: Any) -> None:
    counts = exchanged_epochs(ROWS, BATCH, 1, UPDATES, (0, 1))
    assert counts.changed > 0
    for result in _each(trainings):
        assert result["exchanged"] == result["exchanged_back"] != result["plain"].weights_sha256
