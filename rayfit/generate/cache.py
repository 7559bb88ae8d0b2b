"""A key-value cache of fixed room: transformers' own grows by copying all of it at every token."""

from __future__ import annotations

from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer


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


def roomy_cache(config: Any, room: int) -> DynamicCache:
    """transformers' dynamic cache for a model's config, with every plain layer given room for `room` tokens.

    Layers of another kind (sliding windows, states) stay as transformers makes them.
    """
    cache = DynamicCache(config=config)
    cache.layers = [RoomyLayer(room) if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache
