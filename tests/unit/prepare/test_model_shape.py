"""A model's size, whichever way its configuration says it, and weights that are not all there."""

from __future__ import annotations

from pathlib import Path

import pytest

from rayfit.errors import RayfitError
from rayfit.prepare.model_shape import (
    context_window,
    load_causal_model,
    num_layers,
    vocabulary_size,
)
from tests.tiny import VOCABULARY, save_tiny_llama


def test_a_composite_configuration_says_it_in_its_text_part() -> None:
    from transformers import Gemma3Config, Gemma3TextConfig

    text = Gemma3TextConfig(vocab_size=320, num_hidden_layers=3, max_position_embeddings=96)
    config = Gemma3Config(text_config=text.to_dict())
    assert (context_window(config), vocabulary_size(config), num_layers(config)) == (96, 320, 3)
    assert not hasattr(config, "vocab_size") and not hasattr(config, "num_hidden_layers"), (
        "or it shows nothing"
    )


def test_older_names_of_the_window() -> None:
    from transformers import GPT2Config, MambaConfig

    assert context_window(GPT2Config(n_positions=77)) == 77
    assert context_window(MambaConfig()) is None


@pytest.mark.parametrize("broken", ["missing", "cut"])
def test_weights_that_are_not_all_there_are_refused_by_name(tmp_path: Path, broken: str) -> None:
    from safetensors.torch import load_file, save_file

    path = save_tiny_llama(tmp_path)
    assert vocabulary_size(load_causal_model(path).config) == VOCABULARY
    weights = load_file(path / "model.safetensors")
    name = "model.layers.0.mlp.gate_proj.weight"
    cut = weights.pop(name)[:5].contiguous()
    more = {} if broken == "missing" else {name: cut}
    save_file({**weights, **more}, path / "model.safetensors", metadata={"format": "pt"})
    what = "lacks weights that its config asks for" if broken == "missing" else "of other sizes"
    with pytest.raises(RayfitError, match=f"{what}.*{name}"):
        load_causal_model(path, ignore_mismatched_sizes=True)
