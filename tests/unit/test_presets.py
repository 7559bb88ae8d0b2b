from __future__ import annotations

import platform

import pytest

from rayfit.presets import MADE_MODELS, declared_text


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


def test_the_largest_embedded_model_has_the_size_its_name_says() -> None:
    assert MADE_MODELS["pydoc-2m"].num_parameters == pytest.approx(2.2e6, rel=0.03)


def test_the_instruct_model_is_its_base_trained_further() -> None:
    base, instruct = MADE_MODELS["pydoc-1m"], MADE_MODELS["pydoc-1m-instruct"]
    assert instruct.base == "pydoc-1m"
    for name in ("hidden_size", "intermediate_size", "num_layers", "num_heads", "vocabulary_size"):
        assert getattr(instruct, name) == getattr(base, name)


def test_what_is_declared_of_a_made_model_does_not_change() -> None:
    # Ids of made models, and of all that is trained from them, stand on this.
    assert MADE_MODELS["pydoc-1m"].declared() == {
        "hidden_size": 128,
        "intermediate_size": 352,
        "num_layers": 4,
        "num_heads": 4,
        "num_updates": 1000,
        "vocabulary_size": 2048,
        "context_window": 1024,
        "batch_size": 8,
        "sequence_length": 256,
        "learning_rate": 4e-3,
        "warmup_updates": 50,
        "final_share": 0.05,
        "weight_decay": 0.1,
        "seed": 0,
    }


def test_an_embedded_text_is_declared_by_the_interpreter_s_version_and_its_name() -> None:
    # Ids of texts, and of all that is trained on them, stand on this.
    whole = {"pydoc": platform.python_version(), "extraction": 1}
    assert declared_text("pydoc") == whole
    assert declared_text("code") == {**whole, "domain": "code", "domain_version": 1}
