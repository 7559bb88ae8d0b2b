"""Which command makes a record again: every record is one step of a sweep."""

from __future__ import annotations

import shlex

from rayfit.records.storage import PREPARED, SWEEPS, TRIALS, Storage
from rayfit.records.sweep import SweepRecord


def command_of(storage: Storage, kind: str, identifier: str) -> str:
    """Return the command, the storage with it; "" for a record that no sweep's record names."""
    command = ""
    trial = storage.trial(identifier) if kind == TRIALS else None
    if trial is not None:
        command = trial.command
    else:
        sweep = storage.sweep(identifier) if kind == SWEEPS else _sweep_with(storage, kind, identifier)
        command = sweep.launches[-1].command if sweep is not None and sweep.launches else ""
    if not command or "--storage" in shlex.split(command):
        return command
    return f"{command} --storage {shlex.quote(str(storage.root))}"


def _sweep_with(storage: Storage, kind: str, identifier: str) -> SweepRecord | None:
    for sweep_id in storage.ids(SWEEPS):
        sweep = storage.sweep(sweep_id)
        if sweep is not None and identifier in _named(sweep, kind):
            return sweep
    return None


def _named(sweep: SweepRecord, kind: str) -> set[str]:
    """The ids of a kind that a sweep has made or stands on."""
    if kind in PREPARED:
        return set({"models": sweep.uses.models, "texts": sweep.uses.texts, "rows": sweep.uses.rows}[kind])
    return {each.id for each in sweep.measurements if each.kind == kind}
