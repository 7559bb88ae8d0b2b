"""Small models for the generation tests, made once: a random one, and one that knows some rows by heart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

VOCABULARY = 61
WINDOW = 160


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tiny_llama(seed: int, **options: object) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    settings = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": WINDOW,
        "tie_word_embeddings": False,
        "initializer_range": 0.3,
        "attn_implementation": "sdpa",
    }
    return LlamaForCausalLM(LlamaConfig(**{**settings, **options})).eval()


@pytest.fixture(scope="session")
def random_llama() -> LlamaForCausalLM:
    return tiny_llama(0)


@dataclass(frozen=True)
class Memoriser:
    """A model that has learned `rows` [8, 64] by heart; ids 0 to 2 are special and in no row."""

    model: LlamaForCausalLM
    rows: np.ndarray
    starts_word: np.ndarray

    def contexts(self) -> list[list[int]]:
        return self.rows[:, :8].tolist()


@pytest.fixture(scope="session")
def memoriser() -> Memoriser:
    generator = np.random.default_rng(3)
    rows = generator.integers(3, VOCABULARY, (8, 64))
    starts_word = generator.random(VOCABULARY) < 0.4
    model = tiny_llama(1, hidden_size=64, intermediate_size=128, initializer_range=0.02).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=4e-3)
    batch = torch.from_numpy(rows)
    for _ in range(150):
        optimiser.zero_grad()
        loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        optimiser.step()
    # what stays is the first tokens of the rows, which nothing foretells
    assert loss.item() < 0.15, loss.item()
    return Memoriser(model.eval(), rows, starts_word)
