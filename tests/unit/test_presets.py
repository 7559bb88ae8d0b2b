from __future__ import annotations

import pytest

from rayfit.presets import MADE_MODELS


@pytest.mark.parametrize("name", MADE_MODELS)
def test_the_number_of_parameters_is_that_of_the_llama_that_is_made(name: str) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    preset = MADE_MODELS[name]
    config = LlamaConfig(
        vocab_size=preset.vocabulary_size,
        hidden_size=preset.hidden_size,
        intermediate_size=preset.intermediate_size,
        num_hidden_layers=preset.num_layers,
        num_attention_heads=preset.num_heads,
        tie_word_embeddings=True,
    )
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    assert sum(parameter.numel() for parameter in model.parameters()) == preset.num_parameters


def test_the_default_model_has_the_size_its_name_says() -> None:
    assert MADE_MODELS["pydoc-1m"].num_parameters == pytest.approx(1.07e6, rel=0.005)
