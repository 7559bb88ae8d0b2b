"""Key-value caches that do not copy themselves at every token, as transformers' own does."""

from __future__ import annotations

from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

STEP = 32
"""Tokens by which a `SteppedLayer` grows."""


class RoomyLayer(DynamicLayer):
    """One layer of a cache that holds up to `room` tokens; what attention sees is a view of what is filled.

    The same numbers in the same shapes as transformers' layer, without its copy per token, which takes more
    time than the attention itself once the cache has outgrown the processor's.
    """

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room
        self.filled = 0

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Make the room, shaped after the first keys and values [batch, heads, tokens, dim]."""
        self.dtype, self.device = key_states.dtype, key_states.device
        self.key_room = key_states.new_empty((*key_states.shape[:2], self.room, key_states.shape[3]))
        self.value_room = value_states.new_empty((*value_states.shape[:2], self.room, value_states.shape[3]))
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_args: Any, **_kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append keys and values; return all that are filled."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        end = self.filled + key_states.shape[2]
        assert end <= self.room, f"{end} tokens in a cache with room for {self.room}"
        self.key_room[:, :, self.filled : end] = key_states
        self.value_room[:, :, self.filled : end] = value_states
        self.filled = end
        self.keys, self.values = self.key_room[:, :, :end], self.value_room[:, :, :end]
        return self.keys, self.values

    def get_seq_length(self) -> int:
        """Tokens filled."""
        return self.filled


class SteppedLayer(DynamicLayer):
    """One layer of a cache that grows by 32 tokens at a time; attention sees all of it and masks what is not filled.

    For eager attention on a CPU, which reads a cache without gaps between its texts up to three times as fast
    as the filled part of a roomier one. What is masked is zero and has weight exactly zero.
    """

    def __init__(self) -> None:
        super().__init__()
        self.filled = 0

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Start empty, shaped after the first keys and values [batch, heads, tokens, dim]."""
        self.dtype, self.device = key_states.dtype, key_states.device
        self.keys, self.values = key_states[:, :, :0], value_states[:, :, :0]
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_args: Any, **_kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append keys and values; return the whole cache, zero where it is not filled."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        end = self.filled + key_states.shape[2]
        length, _ = self.get_mask_sizes(key_states.shape[2])
        if length > self.keys.shape[2]:
            self.keys, self.values = (_grown(part, self.filled, length) for part in (self.keys, self.values))
        self.keys[:, :, self.filled : end] = key_states
        self.values[:, :, self.filled : end] = value_states
        self.filled = end
        return self.keys, self.values

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Length of the cache after `query_length` more tokens, unfilled part and all, and offset 0."""
        return -(-(self.filled + query_length) // STEP) * STEP, 0

    def get_seq_length(self) -> int:
        """Tokens filled."""
        return self.filled


def _grown(part: torch.Tensor, filled: int, length: int) -> torch.Tensor:
    out = part.new_zeros((*part.shape[:2], length, part.shape[3]))
    out[:, :, :filled] = part[:, :, :filled]
    return out


def roomy_cache(model: Any, room: int) -> DynamicCache:
    """transformers' dynamic cache for a model, whose plain layers are made for up to `room` tokens.

    Layers of another kind (sliding windows, states) stay as transformers makes them.
    """
    cache = DynamicCache(config=model.config)
    # What can be compiled whole is written for caches that are longer than what is filled, provided that its attention
    # takes its mask from transformers' common code.
    stepped = (
        model.device.type == "cpu"
        and model.config._attn_implementation == "eager"
        and model._can_compile_fullgraph
        and model._supports_attention_backend
    )
    cache.layers = [
        layer if type(layer) is not DynamicLayer else SteppedLayer() if stepped else RoomyLayer(room)
        for layer in cache.layers
    ]
    return cache
