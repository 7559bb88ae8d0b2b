"""Where a launch spends its time."""

from __future__ import annotations

import pytest

from rayfit.records.sweep import LaunchSeconds
from rayfit.sweep import stopwatch as module
from rayfit.sweep.stopwatch import Stopwatch


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_parts_follow_each_other_and_add_up(at: list[float]) -> None:
    watch = Stopwatch()
    assert watch.seconds == LaunchSeconds()
    at[0] = 102.5
    watch.over("preparing")
    at[0] = 103.0
    watch.over("preparing")  # it was over
    watch.over("ray")
    at[0] = 110.0
    watch.over("mlflow")
    assert watch.seconds == LaunchSeconds(preparing=2.5, ray=0.5, mlflow=7.0)


def test_only_parts_of_the_record_can_be_over(at: list[float]) -> None:
    with pytest.raises(AssertionError):
        Stopwatch().over("lunch")
