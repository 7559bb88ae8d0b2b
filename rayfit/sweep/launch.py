"""One launch of a sweep, as its parts hand it to each other."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from rayfit.console import Console
from rayfit.measure.bench import Bench
from rayfit.measure.stage import Stage, is_current
from rayfit.measure.stages import stages_of
from rayfit.plan.measurements import Measurement
from rayfit.plan.plan import Plan
from rayfit.plan.trials import TrialSpec
from rayfit.prepare.prepare import Prepared
from rayfit.records.provenance import now
from rayfit.records.storage import Storage
from rayfit.sweep.stopwatch import Stopwatch


@dataclass
class Launch:
    """One launch of a sweep: what there is to do, and what went wrong.

    `errors` by the id of a measurement, `trial_errors` by the id of a trial. `stamp` tells launches apart.
    """

    prepared: Prepared
    storage: Storage
    script: str
    command: str
    console: Console
    trials: list[TrialSpec]
    measurements: list[Measurement]
    started_at: str = field(default_factory=now)
    errors: dict[str, str] = field(default_factory=dict)
    trial_errors: dict[str, str] = field(default_factory=dict)
    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    stamp: str = field(default_factory=lambda: secrets.token_hex(3))

    @property
    def plan(self) -> Plan:
        """The plan, with nothing pending."""
        return self.prepared.plan

    @property
    def bench(self) -> Bench:
        """What measuring stands on."""
        options = self.plan.options
        return Bench(
            storage=self.storage,
            model_paths=self.prepared.model_paths,
            device="cuda" if options.use_gpu else "cpu",
            mauve_model=Path(options.mauve_model) if options.mauve_model else None,
        )

    @property
    def stages(self) -> dict[str, Stage]:
        """Every kind of measurement of this sweep."""
        return stages_of(self.plan.sweep.measures)


def unfinished(
    plan: Plan, storage: Storage, *, fresh: bool, retrained: Collection[str | None]
) -> list[Measurement]:
    """The measurements that are left to do; all of those of trials that are trained again."""
    return [
        spec
        for spec in plan.measurements
        if fresh or (spec.trial is not None and spec.trial.id in retrained) or not is_current(spec, storage)
    ]
