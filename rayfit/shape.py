"""The sizes that decide how much memory a model takes, from its config.json, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Models of these types are built alike: attention with fewer keys than queries, a gated MLP, RMS norms.
_LIKE_LLAMA = ("llama", "mistral", "qwen2")
_WITH_BIASES = ("qwen2",)  # of queries, keys and values alone


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A decoder of Llama's build: sizes as config.json has them. `head_size` is that of one attention head."""

    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    vocabulary_size: int
    head_size: int
    is_tied: bool = False
    has_biases: bool = False

    @property
    def kv_size(self) -> int:
        """Numbers of a token's keys in one layer; its values take as many."""
        return self.num_kv_heads * self.head_size

    @property
    def num_parameters(self) -> int:
        """Parameters of the whole model, a tied embedding counted once."""
        width, queries = self.hidden_size, self.num_heads * self.head_size
        attention = 2 * width * queries + 2 * width * self.kv_size
        biases = (queries + 2 * self.kv_size) if self.has_biases else 0
        layer = attention + biases + 3 * width * self.intermediate_size + 2 * width
        embeddings = self.vocabulary_size * width * (1 if self.is_tied else 2)
        return embeddings + self.num_layers * layer + width

    @property
    def largest_tensor(self) -> int:
        """Numbers of the largest single parameter."""
        return self.hidden_size * max(
            self.vocabulary_size, self.intermediate_size, self.num_heads * self.head_size
        )

    def adapter_parameters(self, rank: int, num_layers: int) -> int:
        """Numbers of LoRA matrices of this rank beside all linear layers of so many blocks."""
        width, queries = self.hidden_size, self.num_heads * self.head_size
        sides = 2 * (width + queries) + 2 * (width + self.kv_size) + 3 * (width + self.intermediate_size)
        return rank * sides * num_layers


def shape_of_config(config: Mapping[str, Any]) -> Shape | None:
    """The shape in a config.json; None for a model of another build than Llama's, whose sizes have other meanings."""
    if config.get("model_type") not in _LIKE_LLAMA:
        return None
    try:
        width, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
        return Shape(
            hidden_size=width,
            intermediate_size=int(config["intermediate_size"]),
            num_layers=int(config["num_hidden_layers"]),
            num_heads=heads,
            num_kv_heads=int(config.get("num_key_value_heads") or heads),
            vocabulary_size=int(config["vocab_size"]),
            head_size=int(config.get("head_dim") or width // heads),
            is_tied=bool(config.get("tie_word_embeddings", False)),
            has_biases=config["model_type"] in _WITH_BIASES,
        )
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
