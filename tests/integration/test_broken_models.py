"""Models that cannot be trained, met by the engine itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny import save_tiny_llama
from tests.workers import run_workers

pytestmark = pytest.mark.integration

CASES = [("fp32", 0), ("fp32", 1), ("fp32", 3), ("bf16", 1), ("bf16", 3)]


def _errors(model_path: Path) -> list[str]:
    from rayfit.errors import RayfitError
    from rayfit.plan.deepspeed import deepspeed_config
    from rayfit.train.engine import build_engine

    found = []
    for precision, stage in CASES:
        config = deepspeed_config(zero_stage=stage, precision=precision, batch_size=8, num_workers=1)
        try:
            build_engine(model_path, config)
        except RayfitError as error:
            found.append(str(error))
        else:
            found.append("trained from random numbers")
    return found


def test_no_engine_is_built_of_weights_that_are_not_all_there(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = save_tiny_llama(tmp_path)
    weights = load_file(path / "model.safetensors")
    del weights["model.layers.0.mlp.gate_proj.weight"]
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
    (errors,) = run_workers(_errors, 1, path)
    for error in errors:
        assert "lacks weights that its config asks for: model.layers.0.mlp.gate_proj.weight" in error
