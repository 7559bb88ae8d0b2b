"""Plans for tests, made from options as the command line makes them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from rayfit.config import Options
from rayfit.plan.declaration import HYPERFITTED
from rayfit.plan.plan import Plan
from rayfit.plan.planning import make_plan
from rayfit.plan.sources import known_files, model_files
from rayfit.plan.trials import TrialSpec
from rayfit.records.storage import Storage
from sweeps import data_quantity

# Without arms of its own: what the options say is what is trained. Its paper scale leaves the model to the options.
SWEEP = replace(
    data_quantity.SWEEP,
    arms={HYPERFITTED: {}},
    scales={
        scale: {name: value for name, value in declared.items() if name in ("samples", "num_updates")}
        for scale, declared in data_quantity.SWEEP.scales.items()
    },
)

# Nothing here is left to a scale or a preset, so that changing the scale or the model changes only itself.
BASE: dict[str, Any] = {
    "samples": (8,),
    "num_updates": 100,
    "learning_rate": (1e-3,),
    "validation_rows": 20,
    "contexts": 10,
    "precision": "bf16",
}


def plan_of(storage: Storage, **changes: Any) -> Plan:
    """The plan of one trial on the embedded default, with these options changed."""
    return make_plan(SWEEP, Options(**{**BASE, "storage": str(storage.root), **changes}), storage)


def trial_of(storage: Storage, **changes: Any) -> TrialSpec:
    """The one trial of `plan_of`."""
    (trial,) = plan_of(storage, **changes).trials
    return trial


def write_model(folder: Path, *, shape: tuple[int, int] = (4, 3), value: int = 0) -> Path:
    """A directory that looks like a Hugging Face model: configuration and one safetensors file."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    size = 4 * shape[0] * shape[1]
    entry = {"dtype": "F32", "shape": list(shape), "data_offsets": [0, size]}
    header = json.dumps({"__metadata__": {"format": "pt"}, "weight": entry}).encode()
    content = len(header).to_bytes(8, "little") + header + bytes([value]) * size
    (folder / "model.safetensors").write_bytes(content)
    return folder


def hash_model(storage: Storage, folder: Path) -> None:
    """What `prepare` does to make a local model's identity known."""
    known_files(storage).hash(model_files(folder))
