"""What a sweep's end costs is linear in its trials: a thousand of them cost each what ten do."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from rayfit.config import Options
from rayfit.plan.planning import make_plan
from rayfit.records.storage import Storage
from rayfit.records.sweep import SweepRecord
from rayfit.report.markdown import render_markdown
from rayfit.report.table import render_table
from rayfit.sweep.record import begun_record, ended_record
from tests.finished import Finished
from tests.unit.plan.examples import BASE, SWEEP

FEW, MANY = 10, 1000
MOST = 1.5


def _sweep(storage: Storage, num_trials: int) -> Finished:
    """Every trial at a rate of its own, so that each is compared with the first; all of them done."""
    sweep = replace(SWEEP, varies=("samples", "seeds", "learning_rate"))
    rates = tuple(1e-3 + 1e-6 * number for number in range(num_trials))
    options = Options(**{**BASE, "storage": str(storage.root), "learning_rate": rates})
    return Finished(storage, make_plan(sweep, options, storage)).all()


def _seconds(call: Callable[[], object], times: int) -> float:
    """CPU seconds of one call, the least of several."""
    found = []
    for _ in range(times):
        begin = time.process_time()
        call()
        found.append(time.process_time() - begin)
    return min(found)


@pytest.fixture(scope="module")
def sweeps(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Finished]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)  # thousands of small files
        root: Path = tmp_path_factory.mktemp("linear")
        return {number: _sweep(Storage(root / str(number)), number) for number in (FEW, MANY)}


def test_findings_cost_as_much_per_trial_whatever_their_number(sweeps: dict[int, Finished]) -> None:
    records: dict[int, SweepRecord] = {}
    costs = {}
    for number, made in sweeps.items():
        begun = begun_record(made.launch)

        def end(made: Finished = made, begun: SweepRecord = begun, number: int = number) -> None:
            records[number] = ended_record(begun, made.launch)

        costs[number] = _seconds(end, 5 if number == FEW else 2) / number
    for number, record in records.items():
        assert len(record.rows) == number + 2 and {row.status for row in record.rows} == {"FINISHED"}
        # Each with the original, and all but the first with it, in two scores.
        assert len(record.differences) == 2 * (2 * number - 1)
    assert costs[MANY] <= MOST * costs[FEW], costs
    drawn = {
        number: _seconds(lambda record=record: render_table(record) + render_markdown(record), 3) / number
        for number, record in records.items()
    }
    assert drawn[MANY] <= MOST * drawn[FEW], drawn


def test_beginning_costs_as_much_per_trial_whatever_their_number(sweeps: dict[int, Finished]) -> None:
    costs = {
        number: _seconds(lambda made=made: begun_record(made.launch), 3) / number
        for number, made in sweeps.items()
    }
    assert costs[MANY] <= MOST * costs[FEW], costs
