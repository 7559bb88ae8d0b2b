"""Sweeps for these tests: plans, the measurements in them, what a training measures of itself, and who tells of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
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
from rayfit.sweep.queue import Status, TrialState
from rayfit.track.connection import connect, default_tracking_uri
from rayfit.track.tracker import Tracker
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


def launch(storage: Storage, **options: Any) -> tuple[Finished, str]:
    """A sweep of one trial on 8 samples, and the trial's id."""
    made = run_of(storage, **{"samples": (8,), **options})
    return made, str(trial_with(made, 8).id)


def running(
    trial_id: str, point: Point | None, tries: int = 1, status: Status = "running"
) -> dict[str, TrialState]:
    return {trial_id: TrialState(status=status, tries=tries, last_point=point, seconds=None, error="")}


def started(storage: Storage, record: SweepRecord) -> tuple[Any, Tracker]:
    """A tracker that tells only when it is told to."""
    tracker = Tracker(storage, default_tracking_uri(storage), curves_seconds=3600)
    tracker.start(record)
    return connect(None, storage), tracker


def see_all(tracker: Tracker, trial_id: str, points: Sequence[Point], tries: int = 1) -> None:
    for point in points:
        tracker.see(running(trial_id, point, tries))
        tracker.see(running(trial_id, point, tries))  # the queue says a point until there is another


MODELS = ("pydoc-0.5m", "pydoc-1m")
DOMAINS = ("code", "docstrings")
GENERAL: dict[str, Any] = {
    "changes": {
        "arms": {
            "constant updates": {},
            "rows seen seldom": {"epochs": (50.0,), "adapter": ("lora:rank=4",)},
        },
        "varies": ("model", "dataset", "samples", "seeds"),
        "figures": ({"kind": "bars", "y": "rep_4"}, {"kind": "agreement"}),
    },
    # named, since the options say an axis that the second says itself
    "arms": ("constant updates", "rows seen seldom"),
    "model": MODELS,
    "samples": (8,),
    "dataset": DOMAINS,
    "eval_datasets": DOMAINS,
    "decodings": ("greedy", "nucleus", "matched"),
    "keep_every": 40.0,
    "further_contexts": 20,
}


def general(storage: Storage, *, kind: str = "data_quantity", **changes: Any) -> Finished:
    """A launch of the general sweep; every number of it is one of its own."""
    options = {**GENERAL, **changes}
    made = run_of(storage, **{**options, "changes": {**options["changes"], "kind": kind}})
    for trial in made.plan.unique_trials:
        made.train(trial)
    for spec in made.plan.measurements:
        measured(made, spec)
    return made


def measured(made: Finished, spec: Measurement) -> None:
    names = {
        "predictions": ("validation_loss", "entropy_nats"),
        "scores": ("ttr_last_96", "rep_4"),
        "comparisons": ("top_1_agreement",),
        "temperatures": ("matched_temperature",),
    }
    made.measure(spec, **{name: value(spec, name) for name in names.get(spec.kind, ())})


def value(spec: Measurement, name: str) -> float:
    """A number of its own for every measurement, the same each time."""
    return int(spec.id.rpartition("-")[2][:6], 16) / 0x1000000 + len(name) / 1000


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
