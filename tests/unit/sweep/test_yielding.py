"""One card for training and measuring: what taking turns costs, and how long results are waited for, in simulation."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayfit.sweep.yielding import SHARE_OF_STARTS, Yielding


@dataclass
class Sweep:
    """A sweep on one card, in seconds: each trial's training and measuring, and a group's start."""

    trials: int
    training: float
    measuring: float
    start: float
    now: float = 0.0
    num_starts: int = 0
    waited: list[float] = field(default_factory=list)

    def run(self, *, yields: bool) -> Sweep:
        """As the driver does it: the group yields when it is due, and what waits is measured before the next starts."""
        yielding, left, unmeasured = Yielding(), self.trials, list[float]()
        while left:
            yielding.group_started(self.now)
            for trained in unmeasured:
                self._measure(trained)
                yielding.others_hold(self.now)
            unmeasured = []
            self.now += self.start
            self.num_starts += 1
            while left:
                yielding.group_works(self.now)
                self.now += self.training
                left -= 1
                unmeasured.append(self.now)
                if yields and yielding.is_due(self.now):
                    break
        for trained in unmeasured:
            self._measure(trained)
        return self

    def _measure(self, trained: float) -> None:
        self.now += self.measuring
        self.waited.append(self.now - trained)


@given(
    trials=st.integers(1, 60),
    training=st.floats(1, 2000),
    measuring=st.floats(1, 300),
    start=st.floats(1, 300),
)
def test_starts_cost_at_most_a_tenth_and_results_wait_for_little_more_than_nine_of_them(
    trials: int, training: float, measuring: float, start: float
) -> None:
    sweep = Sweep(trials, training, measuring, start).run(yields=True)
    assert len(sweep.waited) == trials
    at_work = trials * training
    # All but the last start have their nine times in training behind them.
    assert (sweep.num_starts - 1) * start <= SHARE_OF_STARTS / (1 - SHARE_OF_STARTS) * at_work * (1 + 1e-9)
    turn = 9 * start + training
    in_one_turn = turn / training + 1
    assert max(sweep.waited) <= turn + in_one_turn * measuring + 1e-6


def test_a_sweep_of_twenty_trials_of_four_minutes() -> None:
    """The numbers of docs/gpu.md."""
    usual: dict[str, float] = {"training": 240, "measuring": 60, "start": 60}
    at_the_end, in_turns = (Sweep(20, **usual).run(yields=yields) for yields in (False, True))
    assert (at_the_end.num_starts, in_turns.num_starts) == (1, 7)
    assert at_the_end.now / 60 == 101 and in_turns.now / 60 == 107
    assert (max(at_the_end.waited) / 60, max(in_turns.waited) / 60) == (77, 9)


def test_waiting_for_others_is_no_part_of_a_start() -> None:
    yielding = Yielding()
    assert not yielding.is_due(0.0)
    yielding.group_started(100.0)
    yielding.others_hold(400.0)
    assert not yielding.is_due(500.0), "it does not work yet"
    yielding.group_works(410.0)
    yielding.group_works(450.0)
    yielding.others_hold(460.0)  # they wait for it now
    assert not yielding.is_due(410.0 + 89.9)
    assert yielding.is_due(410.0 + 90.1)
    yielding.group_started(600.0)
    assert not yielding.is_due(10_000.0)


@pytest.mark.parametrize("start", [0.0, 0.5])
def test_where_a_start_costs_nothing_it_yields_at_once(start: float) -> None:
    yielding = Yielding()
    yielding.group_started(0.0)
    yielding.group_works(start)
    assert yielding.is_due(start + 9 * start)
