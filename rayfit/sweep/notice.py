"""Trainings that are interrupted, or that others do: what the driver sees of them, says, and asks for."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rayfit.console import Console
from rayfit.plan.products import wanted_products
from rayfit.plan.trials import TrialSpec
from rayfit.records.leases import held_by, trial_lease
from rayfit.sweep.cluster import joins_running_ray
from rayfit.sweep.launch import Launch
from rayfit.sweep.nodes import draining_nodes
from rayfit.sweep.queue import TrialState

# States of the largest models take minutes to write. Whoever ends this process earlier says so by ending it.
_LONGEST_WAIT = 600.0
_POLL_SECONDS = 0.1


def interrupt_all(queue: Any, console: Console) -> None:
    """Give notice to all groups and wait until nothing is trained any more; a second Ctrl-C ends the waiting."""
    import ray

    state = ray.get(queue.state.remote())
    running = sum(trial.status == "running" for trial in state.values())
    if not running:
        return
    console.say(
        f"interrupted: the state of {running} running trial{'s' * (running > 1)} is being kept; once more ends it at once"
    )
    ray.get(queue.notice.remote())
    begin = time.monotonic()
    while time.monotonic() - begin < _LONGEST_WAIT:
        if not any(trial.status == "running" for trial in ray.get(queue.state.remote()).values()):
            return
        time.sleep(_POLL_SECONDS)


class Watch:
    """What the driver sees of states, of trials that other launches train, and of nodes that are to go."""

    def __init__(self, launch: Launch, trials: Mapping[str, TrialSpec], queue: Any) -> None:
        """`queue`: the actor."""
        self._launch, self._trials, self._queue = launch, trials, queue
        self._seen: dict[str, TrialState] = {}
        self._elsewhere: set[str] = set()

    def has_newer_state(self, trial_id: str, trial: TrialState) -> bool:
        """Whether a newer state of the trial is kept than was; says what goes wrong, and what is begun again."""
        before = self._seen.get(trial_id)
        self._seen[trial_id] = trial
        say = self._launch.console.say
        if trial.trouble and (before is None or trial.trouble != before.trouble):
            say(f"{trial_id}  {trial.trouble}")
        if trial.status == "elsewhere":
            self._elsewhere.add(trial_id)
        elif before is not None and trial.tries > max(before.tries, 1) and trial_id not in self._elsewhere:
            since = (
                f", from its state after update {trial.kept_update}"
                if trial.kept_update
                else " from the start"
            )
            say(f"{trial_id}  its training was cut off; it is trained on{since}")
        return trial.kept_update != (None if before is None else before.kept_update)

    def see_elsewhere(self, state: Mapping[str, TrialState]) -> None:
        """Tell the queue what has become of trials that another launch trains."""
        storage = self._launch.storage
        for trial_id, trial in state.items():
            if trial.status != "elsewhere" or held_by(storage, trial_lease(trial_id)) is not None:
                continue
            record = storage.trial(trial_id)
            wanted = wanted_products(self._launch.plan, self._trials[trial_id])
            if record is not None and all(record.product(each.name) for each in wanted):
                self._queue.found.remote(trial_id, record.seconds.total)
            else:
                self._queue.back.remote(trial_id)

    def see_drained_nodes(self) -> None:
        """Have groups on nodes that are to go keep their states; others go on with what they trained."""
        import ray

        drained = draining_nodes() if joins_running_ray() else ()
        if drained and (told := ray.get(self._queue.notice.remote(drained))):
            self._launch.console.say(
                f"a node is to go: the state of what {', '.join(told)} trains is kept first"
            )
