"""Run sweeps as people do: the script, in a process of its own."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

from rayfit.plan.declaration import Sweep
from rayfit.records.storage import Storage
from rayfit.records.trial import TrialRecord
from tests.patience import finish

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "sweeps" / "data_quantity.py"
SMALL = ("--model", "pydoc-0.5m", "--scale", "ci")


def quantity() -> Sweep:
    """The sweep of that script."""
    sweep: Sweep = runpy.run_path(str(SCRIPT))["SWEEP"]
    return sweep


def start(
    *arguments: object, script: Path = SCRIPT, cwd: Path = ROOT, **environment: str
) -> subprocess.Popen[str]:
    """Start a sweep, its output captured in one stream; of the quantity sweep, one arm."""
    arms = ("--arms", "constant updates") if script.name == SCRIPT.name else ()
    return subprocess.Popen(
        [sys.executable, str(script), *map(str, arguments), *arms],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=cwd,
        env={**os.environ, **environment},
        start_new_session=True,
    )


def launch(*arguments: object, status: int = 0, **kwargs: Any) -> str:
    """Run a sweep to its end; its output. Fails unless it exits with `status`."""
    process = start(*arguments, **kwargs)
    storage = next((after for word, after in pairwise(arguments) if word == "--storage"), None)
    output = finish(process, None if storage is None else Path(str(storage)))
    assert process.returncode == status, output
    return output


def summary(storage: Path) -> list[dict[str, Any]]:
    """The rows of the one sweep in a storage."""
    (file,) = storage.glob("sweeps/*/summary.json")
    rows: list[dict[str, Any]] = json.loads(file.read_text())["rows"]
    return rows


def trial_records(root: Path) -> dict[int, TrialRecord]:
    """Finished trials by their number of samples."""
    storage = Storage(root)
    records = (storage.trial(identifier) for identifier in storage.ids("trials"))
    return {record.samples: record for record in records if record is not None}
