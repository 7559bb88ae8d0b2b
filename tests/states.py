"""Trainings whose states are kept, as a group's workers have them, in processes of `tests/workers.py`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from rayfit.errors import TrialInterrupted
from rayfit.plan.adapters import Adapter
from rayfit.plan.deepspeed import deepspeed_config
from rayfit.records.states import StateOf
from rayfit.records.trial import Placed, Point, Stretch
from tests.tiny import random_rows

Case = tuple[int, str, dict[str, Any]]
UPDATES, KEEP = 11, (2,)
# Stage, precision, and what else.
CASES: list[Case] = [
    *((stage, precision, {}) for precision in ("fp32", "bf16") for stage in (0, 1, 2, 3)),
    *((stage, "bf16", {"micro_batch": 3, "offload": "cpu"}) for stage in (2, 3)),
    (1, "bf16", {"use_gpu": True}),  # its Adam is one kernel
    (1, "bf16", {"adapter": Adapter(kind="lora", rank=4, alpha=8)}),
    (3, "fp32", {"adapter": Adapter(kind="lora", rank=4, alpha=8)}),
]
ONE = CASES[1:2]


class Told:
    """What a keeper told the queue."""

    def __init__(self) -> None:
        self.whole: list[int] = []
        self.trouble: list[str] = []

    def __call__(self, update: int, trouble: str) -> None:
        if trouble:
            self.trouble.append(trouble)
        else:
            self.whole.append(update)


def keeper_of(
    storage: Path,
    trial: str,
    *,
    stop_at: int | None,
    told: Callable[[int, str], None],
    may_write: Callable[[], bool] = lambda: True,
    **changes: Any,
) -> Any:
    """A keeper as a worker of a group has it; `stop_at`: notice is given after that update."""
    from rayfit.train.keeping import Keeping, StateKeeper

    asked: list[int] = []

    def is_noticed() -> bool:
        asked.append(1)
        return stop_at is not None and len(asked) >= stop_at

    keeping = Keeping(
        storage=storage,
        of=StateOf(trial=trial, base_weights=None, rows="rows", num_validation=3, export_dtype="fp32"),
        keep=KEEP,
        edition=1,
        launch="first",
        anew=False,
        token="aa",
        stretch=Stretch(
            after=0,
            placement=Placed(
                num_workers=1, zero_stage=1, use_gpu=False, trials_per_group=0, zero_stage_run=1, note=""
            ),
            device="cpu",
            worker_group="group",
        ),
        seconds=None,
        every=None,
    )
    return StateKeeper(replace(keeping, **changes), is_noticed=is_noticed, tell=told, may_write=may_write)


def task_of(model_path: Path, folder: Path, settings: dict[str, Any]) -> Any:
    from rayfit.train.loop import TrainTask
    from rayfit.train.schedule import Schedule

    return TrainTask(
        schedule=Schedule(
            batch_size=8,
            num_updates=UPDATES,
            learning_rate=1e-3,
            order_seed=3,
            model_path=model_path,
            export_dtype="fp32",
            keep=KEEP,
            micro_batch=settings.get("micro_batch"),
        ),
        train_ids=random_rows(12, 24, seed=3),
        validation_ids=random_rows(3, 24, seed=9),
        measured_updates=(0, 2, 4, 8, UPDATES),
        checkpoint_path=folder / "checkpoint",
    )


def train(
    model_path: Path,
    root: Path,
    cases: list[Case],
    stop_at: int | None,
    attempt: str,
    every: int | None = None,
    **changes: Any,
) -> list[Any]:
    """Train every case under a keeper, in one process group: digest, points and stretches, or why it was interrupted."""
    import torch.distributed as dist

    from rayfit.train import keeping, loop
    from rayfit.train.engine import build_engine
    from rayfit.train.reset import take_snapshot

    keeping.LOOK_SECONDS, keeping.SHARE_OF_STATES = 0.0, 1.0  # each update is looked at
    results = []
    for number, (stage, precision, settings) in enumerate(cases):
        config = deepspeed_config(
            zero_stage=stage,
            precision=precision,
            batch_size=8,
            num_workers=dist.get_world_size(),
            **{"use_gpu": False, **{key: value for key, value in settings.items() if key != "adapter"}},
        )
        engine = build_engine(model_path, config, settings.get("adapter"))
        snapshot, told = take_snapshot(engine), Told()
        trial = f"case-{number}"
        folder = root / "trials" / trial / attempt
        keeper = keeper_of(root, trial, stop_at=stop_at, told=told, every=every, **changes)
        points: list[Point] = []
        try:
            task = task_of(model_path, folder, settings)
            done = loop.train_trial(engine, snapshot, task, points.append, keeper)
            results.append((done.weights_sha256, points, done.stretches, done.kept, told.whole))
            parts = [getattr(done.spent, name) for name in done.spent.__struct_fields__]
            assert min(parts) >= 0 and (not points or 0 <= sum(parts) - points[-1].seconds < 60)
        except TrialInterrupted as error:
            results.append((str(error), points, (), {}, told.whole))
    return results


def numbers(points: list[Point]) -> list[tuple[Any, ...]]:
    return [(p.update, p.epoch, p.train_loss, p.validation_loss, p.gradient_norm) for p in points]
