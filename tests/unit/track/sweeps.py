"""Sweeps for these tests: plans, the measurements in them, and what a training measures of itself."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from rayfit.config import Options
from rayfit.plan.declaration import Sweep
from rayfit.plan.measurements import Measurement
from rayfit.plan.plan import Plan
from rayfit.plan.planning import make_plan
from rayfit.plan.trials import TrialSpec
from rayfit.records.storage import Storage
from rayfit.records.sweep import SweepRecord
from rayfit.records.trial import Point
from tests.finished import Finished
from tests.unit.plan.examples import BASE, SWEEP

UPDATES = 100


def run_of(storage: Storage, *, changes: dict[str, Any] | None = None, **options: Any) -> Finished:
    """A launch of a sweep over 8, 32 and 128 samples; `changes` replace what it declares, `options` its options."""
    plan = plan_like(storage, replace(SWEEP, **(changes or {})), **options)
    return Finished(storage, plan)


def plan_like(storage: Storage, sweep: Sweep, **options: Any) -> Plan:
    """The plan of a sweep with these options."""
    given = {**BASE, "samples": (8, 32, 128), "storage": str(storage.root), **options}
    return make_plan(sweep, Options(**given), storage)


def trial_with(run: Finished, samples: int) -> TrialSpec:
    """The trial on so many samples."""
    return next(trial for trial in run.plan.unique_trials if trial.selection.samples == samples)


def specs_of(run: Finished, kind: str, trial: TrialSpec | None = None, **planned: Any) -> list[Measurement]:
    """The measurements of a kind, of a trial or of the original model; `planned`: entries of how a sweep names them."""
    who = "original" if trial is None else "trained"
    wanted = {"who": who, "trial_id": None if trial is None else trial.id, "further": 0, **planned}
    return [
        spec
        for spec in run.plan.measurements
        if spec.kind == kind and all(getattr(spec.planned, name) == value for name, value in wanted.items())
    ]


def spec_of(run: Finished, kind: str, trial: TrialSpec | None = None, **planned: Any) -> Measurement:
    """The one of `specs_of`; of final weights."""
    (spec,) = specs_of(run, kind, trial, **{"update": None, **planned})
    return spec


def measure_all(run: Finished, *trials: TrialSpec | None) -> None:
    """Everything that is measured of these trials (None: of the original models)."""
    for spec in run.plan.measurements:
        if spec.trial in trials:
            run.measure(spec)


def curve(*updates: int, train_loss: float | None = None, stretched: float = 1.0) -> list[Point]:
    """What a training on 8 samples measures; at every fifth of 100 updates, with some of `stretched` times its seconds."""
    return [
        Point(
            update=update,
            epoch=float(update),
            train_loss=train_loss if train_loss is not None else 4.1 * math.exp(-0.06 * update),
            train_accuracy=min(0.99, 0.2 + update / UPDATES),
            batch_loss=None if update == 0 else 4.1 * math.exp(-0.05 * update),
            validation_loss=4.14 + 0.05 * update,
            validation_entropy_nats=4.0 - 0.02 * update,
            gradient_norm=None if update == 0 else 2.0 * math.exp(-0.03 * update),
            train_rows=8,
            seconds=0.15 * update * stretched + (stretched - 1),
        )
        for update in updates or range(0, UPDATES + 1, 5)
    ]


def write_report(storage: Storage, record: SweepRecord) -> Path:
    """The files that the end of a sweep leaves in its folder, in few words."""
    folder = storage.folder("sweeps", record.id)
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    for name in ("report.html", "results.csv", "summary.json", "table.txt"):
        (folder / name).write_text(f"{name} of {record.id}")
    for name in ("plot.png", "figures/figure-1-agreement.png"):
        (folder / name).write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "figures" / "notes.txt").write_text("not shown")
    return folder
