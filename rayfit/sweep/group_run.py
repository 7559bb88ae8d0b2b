"""A worker group: one long run of Ray Train, watched by a thread of the driver."""

from __future__ import annotations

import threading
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from rayfit.sweep.trial import GroupConfig

if TYPE_CHECKING:
    from rayfit.sweep.train_v2 import GroupTrainer

_ABORT_SECONDS = 10.0


class GroupRun(threading.Thread):
    """Runs a group to its end. `error` is then what ended it early, as text, or empty.

    The queue counts tries per trial. A thread of the driver, which is on the head already: a process for each group
    would import Ray Train once more.
    """

    def __init__(self, config: GroupConfig, *, train_folder: Path, environment: dict[str, str]) -> None:
        super().__init__(name=config.group_id, daemon=True)
        self.error = ""
        self._config, self._train_folder, self._environment = config, train_folder, environment
        self._trainer: GroupTrainer | None = None

    def run(self) -> None:
        """Called by `start`."""
        try:
            from rayfit.sweep.train_v2 import GroupTrainer

            folder = str(self._train_folder)
            self._trainer = GroupTrainer(self._config, train_folder=folder, environment=self._environment)
            self._trainer.fit()
        except Exception:  # noqa: BLE001 - a thread's boundary: the driver reads it
            self.error = traceback.format_exc(limit=3)

    def abort(self) -> None:
        """End it now. Ray must not be shut down while it waits for Ray: that ends the whole process."""
        if self._trainer is not None:
            self._trainer.abort()
        self.join(_ABORT_SECONDS)
