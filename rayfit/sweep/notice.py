"""Notice to worker groups that they are to keep the states of what they train, and to close."""

from __future__ import annotations

import time
from typing import Any

from rayfit.console import Console

# States of the largest models take minutes to write. Whoever ends this process earlier says so by ending it.
_LONGEST_WAIT = 600.0
_POLL_SECONDS = 0.1


def dead_nodes() -> tuple[str, ...]:
    """The ids of the nodes that this Ray has lost."""
    import ray

    return tuple(node["NodeID"] for node in ray.nodes() if not node["Alive"])


def draining_nodes() -> tuple[str, ...]:
    """The ids of the nodes that are to go soon: a spot instance that is taken back, an autoscaler's end."""
    import ray

    # The only way to know that Ray has, and the one that its own Train takes.
    return tuple(ray._private.state.state.get_draining_nodes())


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
