"""When a worker group that holds all there is makes room for what waits to be measured."""

from __future__ import annotations

from dataclasses import dataclass

# Of the time from one group's start to the next, what starting may be at most.
SHARE_OF_STARTS = 0.1


@dataclass
class Yielding:
    """Watches the one group that training has room for. All times are seconds of one clock.

    Ending a group costs the next one's start. It yields, between two trials, once it has trained nine times as long as
    its own start took: starts are then a tenth of all at most, and nothing waits longer than that and a trial.
    """

    started: float | None = None
    works: float | None = None
    free: float = 0.0

    def group_started(self, now: float) -> None:
        """The group was asked for."""
        self.started, self.works = now, None

    def others_hold(self, now: float) -> None:
        """Others than the group hold what it needs, or did until now: waiting for them is no part of its start."""
        if self.works is None:
            self.free = now

    def group_works(self, now: float) -> None:
        """The group trains; the first call of each group counts."""
        if self.works is None:
            self.works = now

    def is_due(self, now: float) -> bool:
        """Whether the group has trained long enough to be worth another start."""
        if self.started is None or self.works is None:
            return False
        start = self.works - max(self.started, self.free)
        return now - self.works >= (1 / SHARE_OF_STARTS - 1) * start
