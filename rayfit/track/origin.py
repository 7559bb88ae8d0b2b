"""When a run happened, what made it, how it ended: of trials, of the original model and of sweeps alike."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any


def sweep_times(sweep: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """When the first launch began and the last one ended, as far as is written down."""
    launches = sweep.get("launches") or [{}]
    return launches[0].get("started_at"), launches[-1].get("finished_at")


def made_by(record: Mapping[str, Any]) -> dict[str, Any]:
    """The tags that say what made a record: script, git commit, library versions."""
    command = record.get("command") or []
    words = shlex.split(command) if isinstance(command, str) else [str(word) for word in command]
    scripts = [word for word in words if word.endswith(".py")]
    return {
        "mlflow.source.name": scripts[0] if scripts else "rayfit",
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": record.get("git_commit"),
        **{f"rayfit.version.{name}": version for name, version in sorted(record.get("versions", {}).items())},
    }


def status_of(complete: bool, error: str | None, finished: bool) -> str:
    """MLflow's word: an unfinished run whose launch is over was interrupted, which MLflow calls KILLED."""
    if complete:
        return "FINISHED"
    if error is not None:
        return "FAILED"
    return "KILLED" if finished else "RUNNING"
