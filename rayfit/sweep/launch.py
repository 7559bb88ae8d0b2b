"""One launch of a sweep, as its parts hand it to each other."""

from __future__ import annotations

from dataclasses import dataclass, field

from rayfit.console import Console
from rayfit.plan.evaluations import ComparisonSpec, EvaluationSpec
from rayfit.plan.planning import Plan
from rayfit.plan.trials import TrialSpec
from rayfit.prepare.prepare import Prepared
from rayfit.records.provenance import now
from rayfit.records.storage import Storage


@dataclass
class Launch:
    """One launch of a sweep: what there is to do, and what went wrong.

    `errors` by the id of an evaluation or comparison, `trial_errors` by the id of a trial.
    """

    prepared: Prepared
    storage: Storage
    script: str
    command: str
    console: Console
    trials: list[TrialSpec]
    measurements: list[EvaluationSpec | ComparisonSpec]
    started_at: str = field(default_factory=now)
    errors: dict[str, str] = field(default_factory=dict)
    trial_errors: dict[str, str] = field(default_factory=dict)

    @property
    def plan(self) -> Plan:
        """The plan, with nothing pending."""
        return self.prepared.plan
