"""Tiny random models for tests: real Hugging Face directories with safetensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np

VOCABULARY = 96


def save_tiny_llama(path: Path, *, seed: int = 0, hidden_size: int = 32, num_layers: int = 2) -> Path:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=num_layers,
        num_attention_heads=4,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=1,
        initializer_range=0.2,  # gradients with a norm above 1, so that clipping would bite
        attention_dropout=0.1,  # a trap: hyperfitting turns dropout off
    )
    LlamaForCausalLM(config).save_pretrained(path)
    return path


def random_rows(num_rows: int, length: int, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(2, VOCABULARY, (num_rows, length), dtype=np.int64)
