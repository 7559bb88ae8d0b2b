"""Caches of a known size and in steps: what transformers' own cache gives, whatever the attention and the padding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    MistralConfig,
    MistralForCausalLM,
)

from rayfit.decoding import Decoding
from rayfit.generate.cache import STEP, RoomyLayer, SteppedLayer, roomy_cache
from rayfit.generate.generator import generate
from tests.unit.generate.conftest import VOCABULARY, tiny_llama

NEW_TOKENS = STEP + 7


def model_of(kind: str, attention: str) -> Any:
    if kind == "llama":
        return tiny_llama(0, attn_implementation=attention)
    torch.manual_seed(0)
    small = {"vocab_size": VOCABULARY, "initializer_range": 0.3, "attn_implementation": attention}
    if kind == "gpt2":
        return GPT2LMHeadModel(GPT2Config(n_positions=160, n_embd=32, n_layer=2, n_head=4, **small)).eval()
    if kind == "bloom":
        return BloomForCausalLM(BloomConfig(hidden_size=32, n_layer=2, n_head=4, **small)).eval()
    config = MistralConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=160,
        sliding_window=6 if kind == "mistral-sliding" else None,
        **small,
    )
    return MistralForCausalLM(config).eval()


def plain(model: Any, context: list[int]) -> np.ndarray:
    """transformers' own generation with its own cache, one context at a time."""
    ids = torch.tensor([context])
    with torch.inference_mode():
        out = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=NEW_TOKENS,
            do_sample=False,
            pad_token_id=0,
            eos_token_id=None,
        )
    return np.asarray(out[0, len(context) :])


@pytest.mark.parametrize(
    ("kind", "attention"),
    [
        ("llama", "eager"),
        ("llama", "sdpa"),
        ("gpt2", "eager"),
        ("mistral", "eager"),
        ("mistral-sliding", "eager"),
        ("bloom", "eager"),
    ],
)
@pytest.mark.parametrize("lengths", [[STEP] * 2, [9, STEP + 1, 1]], ids=["one-length", "padded"])
def test_texts_are_those_of_transformers_own_cache(kind: str, attention: str, lengths: list[int]) -> None:
    model = model_of(kind, attention)
    generator = np.random.default_rng(5)
    contexts = [generator.integers(0, VOCABULARY, length).tolist() for length in lengths]
    found = generate(model, contexts, Decoding(num_new_tokens=NEW_TOKENS), suppress_ids=())
    for place, context in enumerate(contexts):
        np.testing.assert_array_equal(found.tokens[place], plain(model, context))


@pytest.mark.parametrize(
    ("kind", "attention", "layer"),
    [("llama", "eager", SteppedLayer), ("llama", "sdpa", RoomyLayer), ("bloom", "eager", RoomyLayer)],
)
def test_attention_decides_the_layer(kind: str, attention: str, layer: type) -> None:
    assert {type(each) for each in roomy_cache(model_of(kind, attention), 40).layers} == {layer}


def test_a_stepped_layer_is_zero_where_it_is_not_filled() -> None:
    layer, given = SteppedLayer(), torch.randn(2, 3, STEP + 5, 4)
    held = 0
    for count in (3, 1, STEP - 4, 1, 4):
        part = given[:, :, held : held + count]
        wanted = layer.get_mask_sizes(count)
        keys, values = layer.update(part, -part)
        held += count
        assert wanted == (keys.shape[2], 0) and keys.shape[2] % STEP == 0 and keys.is_contiguous()
        assert layer.get_seq_length() == held
        assert torch.equal(keys[:, :, :held], given[:, :, :held]) and torch.equal(values, -keys)
        assert not keys[:, :, held:].any()
    assert keys.shape[2] == 2 * STEP
