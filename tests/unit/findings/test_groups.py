from __future__ import annotations

import math

import pytest

from rayfit.findings.groups import grouped
from tests.rows import row


def test_seeds_are_taken_together_with_mean_and_spread() -> None:
    rows = [
        row("trained", samples=8, seed=seed, ttr_last_96=(value, 0.0, 1.0))
        for seed, value in enumerate((0.5, 0.6, 0.7))
    ]
    (group,) = grouped(rows)
    cell = group.cell("ttr_last_96")
    assert cell is not None
    assert cell.value == pytest.approx(0.6)
    assert cell.spread == pytest.approx(math.sqrt((0.01 + 0.0 + 0.01) / 2))
    assert cell.bounds == pytest.approx((0.5, 0.7))
    assert cell.singles == (0.5, 0.6, 0.7)
    assert (cell.low, cell.high) == (None, None)  # of contexts, which is another question


def test_one_seed_keeps_its_interval_and_has_no_spread() -> None:
    (group,) = grouped([row("trained", seed=0, ttr_last_96=(0.5, 0.4, 0.6))])
    cell = group.cell("ttr_last_96")
    assert cell is not None
    assert (cell.value, cell.spread, cell.bounds) == (0.5, None, (0.4, 0.6))


def test_a_failed_seed_is_left_out_of_the_mean_and_kept_in_the_group() -> None:
    failed = row("trained", seed=1, status="FAILED", reason="the loss is nan", minutes=99.0)
    (group,) = grouped([failed, row("trained", seed=0, train_loss=0.02)])
    cell = group.cell("train_loss")
    assert cell is not None and cell.value == 0.02
    assert group.unfinished == (failed,)
    assert group.row.seed == 0
    assert group.cell("minutes") is None, "of a training that failed"


def test_scores_that_are_there_count_though_another_measurement_failed() -> None:
    failed = row("trained", seed=1, status="FAILED", reason="comparisons: out of memory", train_loss=0.04)
    (group,) = grouped([failed, row("trained", seed=0, train_loss=0.02)])
    cell = group.cell("train_loss")
    assert cell is not None and cell.singles == (0.04, 0.02)
    assert group.unfinished == (failed,)


def test_what_is_declared_keeps_groups_apart() -> None:
    rows = [
        row("original"),
        row("original", decoding="nucleus"),
        row("trained", arm="two exchanged"),
        row("trained", arm="all shuffled"),
        row("trained", arm="all shuffled", repeat=1),
    ]
    assert [len(group.rows) for group in grouped(rows)] == [1, 1, 1, 1, 1]


def test_trials_that_stop_at_a_loss_are_one_group_whatever_their_updates() -> None:
    stopped = [
        row("trained", stop_at_train_loss=0.1, updates=updates, epochs=updates / 4) for updates in (80, 96)
    ]
    held = [row("trained", updates=updates) for updates in (80, 96)]
    assert [len(group.rows) for group in grouped([*stopped, *held])] == [2, 1, 1]


def test_nothing_measured_is_nothing() -> None:
    (group,) = grouped([row("trained", ttr_last_96=None)])
    assert group.cell("ttr_last_96") is None
    assert group.cell("no_such_score") is None
