"""Ray Tune's side: one Tune trial per trial of the plan, which waits while a worker group trains it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from rayfit.sweep.cluster import HEAD, NAMESPACE

# Between two questions of a trial's, each of which costs some milliseconds of a core here and in the queue: a tenth of the
# time that it has taken so far, within these.
_SHORTEST_WAIT, _LONGEST_WAIT = 0.25, 2.0


def trial_function(config: dict[str, Any]) -> None:
    """A Tune trial: submit the id, report the curve's points as they come, fail if the trial failed."""
    import time

    import ray
    from msgspec.structs import asdict
    from ray import tune

    queue = ray.get_actor(config["queue"], namespace=NAMESPACE)
    trial_id = config["trial_id"]
    ray.get(queue.submit.remote(trial_id))
    seen, begin = 0, time.monotonic()
    while True:
        points, status, error = ray.get(queue.events.remote(trial_id, seen))
        for point in points:
            tune.report({name: value for name, value in asdict(point).items() if value is not None})
        seen += len(points)
        if status == "finished":
            return
        if status == "failed":
            raise RuntimeError(error)
        time.sleep(min(_LONGEST_WAIT, max(_SHORTEST_WAIT, (time.monotonic() - begin) / 10)))


class TuneRun(threading.Thread):
    """Tune over the given trials, in a thread of the driver.

    A thread, so that the driver's own loop keeps the terminal and Ctrl-C. `error` holds what ended it early, if so.
    """

    def __init__(self, *, queue: str, trial_ids: list[str], at_once: int, folder: Path, name: str) -> None:
        super().__init__(name="tune", daemon=True)
        self.error: Exception | None = None
        self._queue, self._trial_ids, self._at_once = queue, trial_ids, at_once
        self._folder, self._name = folder, name

    @property
    def has_ended(self) -> bool:
        """Whether it was started and is over."""
        return self.ident is not None and not self.is_alive()

    def run(self) -> None:
        """Called by `start`."""
        from ray import tune

        # No CPU, so that waiting for workers holds nothing that workers need; a crumb of the head's own resource,
        # which every Ray has, so that the waiting is done on the node that stays.
        trainable = tune.with_resources(trial_function, {"CPU": 0, **HEAD})
        tuner = tune.Tuner(
            trainable,
            param_space={"queue": self._queue, "trial_id": tune.grid_search(self._trial_ids)},
            tune_config=tune.TuneConfig(max_concurrent_trials=self._at_once, reuse_actors=True),
            run_config=tune.RunConfig(
                name=self._name,
                storage_path=str(self._folder),
                verbose=0,
                # A Tune actor that dies is started again and finds its trial in the queue as it was.
                failure_config=tune.FailureConfig(max_failures=1),
            ),
        )
        try:
            tuner.fit()
        except Exception as error:  # noqa: BLE001 - a thread's boundary: the driver raises it
            self.error = error
