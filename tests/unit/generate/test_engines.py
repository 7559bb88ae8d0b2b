"""Engines by name behind one call, and checkpoints that cannot be loaded."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from rayfit.decoding import Decoding
from rayfit.engine_names import ENGINES, check_engine
from rayfit.errors import RayfitError
from rayfit.generate.engines import engine
from rayfit.generate.index import BlockIndex
from rayfit.generate.loading import load_model, load_tokenizer_and_config
from tests.unit.fresh import ROOT
from tests.unit.generate.conftest import Memoriser
from tests.unit.generate.test_engine_vllm import StandInEngine, stand_in  # noqa: F401 - a fixture

OPTIONS: dict[str, Any] = {"suppress_ids": (0, 1, 2), "context_ids": [f"c{place}" for place in range(8)]}


@pytest.fixture
def checkpoint(memoriser: Memoriser, tmp_path: Path) -> Path:
    memoriser.model.save_pretrained(tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


@pytest.mark.parametrize("text", ["greedy", "nucleus:temperature=2.0", "greedy:block=W0"])
def test_a_checkpoint_loaded_by_the_engine_and_one_given_to_it(
    memoriser: Memoriser, checkpoint: Path, text: str
) -> None:
    decoding = Decoding.parse(text)
    index = BlockIndex.build(memoriser.rows, memoriser.starts_word, bos_id=None)
    loads = engine("transformers", checkpoint, precision="fp32", device="cpu")
    given = engine("transformers", "nowhere", precision="fp32", device="cpu", model=memoriser.model)
    found, wanted = (
        run(memoriser.contexts(), decoding, block_index=index, **OPTIONS) for run in (loads, given)
    )
    for name in ("tokens", "lengths", "ended"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))


@pytest.mark.usefixtures("stand_in")
def test_vllm_by_name_gives_what_transformers_gives(
    memoriser: Memoriser, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    class Recorded(StandInEngine):
        model = memoriser.model

        def __init__(self, **options: Any) -> None:
            seen.update(options)
            super().__init__(**options)

    monkeypatch.setattr("rayfit.engine_names.find_spec", lambda _: object())
    monkeypatch.setattr("vllm.LLM", Recorded)
    runs = [
        engine(name, checkpoint, precision="fp32", device="cpu", **options)
        for name, options in (("transformers", {}), ("vllm", {"gpu_memory_utilization": 0.4}))
    ]
    both = [run(memoriser.contexts(), Decoding(num_new_tokens=30), **OPTIONS) for run in runs]
    np.testing.assert_array_equal(both[0].tokens, both[1].tokens)
    assert seen["model"] == str(checkpoint) and seen["dtype"] == "float32"
    assert seen["gpu_memory_utilization"] == 0.4


def test_an_unknown_engine_is_refused() -> None:
    for refuse in (check_engine, lambda name: engine(name, "x", precision="fp32", device="cpu")):
        with pytest.raises(
            RayfitError, match=r"--engine: expected one of transformers, vllm; got 'vlm'; did you mean"
        ):
            refuse("vlm")
    check_engine("transformers")


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vllm is installed")
def test_without_vllm_the_error_names_an_extra_that_exists() -> None:
    with pytest.raises(RayfitError, match=r'pip install "rayfit\[vllm\]"; or use --engine transformers'):
        check_engine("vllm")
    extras = (ROOT / "pyproject.toml").read_text().split("[project.optional-dependencies]")[1]
    assert '\nvllm = ["vllm>=' in extras


def test_engines_are_what_the_error_lists() -> None:
    assert ENGINES == ("transformers", "vllm")


def refusal(path: Path) -> str:
    with pytest.raises(RayfitError) as caught:
        load_model(path, precision="fp32", device="cpu")
    message = str(caught.value)
    assert "\n" not in message and str(path) in message
    return message


def test_weights_that_are_not_what_the_config_asks_for(checkpoint: Path) -> None:
    weights = load_file(checkpoint / "model.safetensors")
    kept = {name: value for name, value in weights.items() if "layers.1.mlp" not in name}
    save_file(kept, checkpoint / "model.safetensors", metadata={"format": "pt"})
    message = refusal(checkpoint)
    assert "lacks weights that its config asks for: model.layers.1.mlp.down_proj.weight" in message
    cut = {name: value[:3].clone() if "norm" in name else value for name, value in weights.items()}
    save_file(cut, checkpoint / "model.safetensors", metadata={"format": "pt"})
    message = refusal(checkpoint)
    assert "has weights of other sizes" in message
    assert message.endswith("and 2 more")  # two norms per layer of two layers, and the last
    (checkpoint / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1")
    assert "cannot be loaded" in refusal(checkpoint)


def test_precision_is_the_one_asked_for(checkpoint: Path) -> None:
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        model = load_model(checkpoint, precision=name, device="cpu")
        # What gives the logits is fp32 in either.
        head = {id(parameter) for parameter in model.get_output_embeddings().parameters()}
        rest = [parameter for parameter in model.parameters() if id(parameter) not in head]
        assert {parameter.dtype for parameter in rest} == {dtype}


def test_a_directory_without_a_tokenizer_or_with_a_broken_config(checkpoint: Path) -> None:
    with pytest.raises(RayfitError, match="has no tokenizer or config that can be loaded"):
        load_tokenizer_and_config(checkpoint)
    (checkpoint / "config.json").write_text(json.dumps({"model_type": "nonesuch"}))
    with pytest.raises(RayfitError, match="has no tokenizer or config that can be loaded"):
        load_tokenizer_and_config(checkpoint)
