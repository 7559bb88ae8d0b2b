"""Which command makes a record again: every record is one step of a sweep."""

from __future__ import annotations

import shlex
from typing import Any

from rayfit.records.storage import Storage

# Where a sweep's record names what else it has made or used, by the kind of that record.
_NAMED = {"evaluations": "evaluation_id", "predictions": "predictions_id", "comparisons": "comparison_id"}


def command_of(storage: Storage, kind: str, record: dict[str, Any]) -> str:
    """The command, the storage with it; "" for a record that no sweep's record names."""
    command = record.get("command") or ""
    if not command:
        sweep = record if kind == "sweeps" else _sweep_with(storage, kind, record["id"])
        command = sweep["launches"][-1]["command"] if sweep and sweep.get("launches") else ""
    if not command or "--storage" in shlex.split(command):
        return str(command)
    return f"{command} --storage {shlex.quote(str(storage.root))}"


def _sweep_with(storage: Storage, kind: str, identifier: str) -> dict[str, Any] | None:
    for sweep_id in storage.ids("sweeps"):
        sweep = storage.read("sweeps", sweep_id) or {}
        entries = [*sweep.get("evaluations", []), *sweep.get("comparisons", [])]
        named = {entry.get(_NAMED.get(kind, "")) for entry in entries}
        if identifier in named or identifier in sweep.get("uses", {}).get(kind, []):
            return sweep
    return None
