"""What a worker group is built from, and what it is handed to train one trial."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rayfit.plan.adapters import Adapter
from rayfit.records.trial import AboutTrial
from rayfit.train.schedule import Schedule


@dataclass(frozen=True, kw_only=True)
class GroupConfig:
    """A worker group: where its queue and its storage are, what its engine is built from, where it runs.

    `deepspeed` is the whole configuration; `adapter` is None where all weights are trained. `num_threads`: of each
    worker, on its CPU. `max_restarts`: how often Train starts the workers again.
    """

    group_id: str
    queue: str
    namespace: str
    storage: Path
    model_path: Path
    deepspeed: dict[str, Any]
    adapter: Adapter | None
    use_gpu: bool
    num_threads: int
    num_workers: int
    max_restarts: int


@dataclass(frozen=True, kw_only=True)
class TrialTask:
    """One trial as a group needs it: ids resolved to paths, numbers decided. `about` is copied into the record.

    `eval_every`: updates between points of the curve, None for about twenty in all.
    """

    about: AboutTrial
    schedule: Schedule
    rows_path: Path
    validation_path: Path
    sequence_length: int
    num_validation: int
    eval_every: int | None
    fresh: bool

    @property
    def id(self) -> str:
        """The trial's id."""
        return self.about.id
