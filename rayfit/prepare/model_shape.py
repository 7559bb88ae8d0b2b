"""A model's size, as its configuration says it, and its weights, loaded whole or not at all. Asked here alone.

A composite configuration, as Gemma 3's, holds these numbers in its text part; read from the whole they are missing.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rayfit.errors import RayfitError, WeightsError, first_line

_WINDOWS = ("max_position_embeddings", "n_positions", "n_ctx")
_MOST_LISTED = 3


def context_window(config: Any) -> int | None:
    """Tokens that a model of this configuration can hold, context and continuation together; None where it does not say."""
    part = _text_part(config)
    return next((int(value) for name in _WINDOWS if (value := getattr(part, name, None))), None)


def vocabulary_size(config: Any) -> int:
    """Entries of the model's vocabulary, those that its tokenizer leaves unused counted."""
    return int(_text_part(config).vocab_size)


def num_layers(config: Any) -> int:
    """Blocks of the decoder."""
    return int(_text_part(config).num_hidden_layers)


def _text_part(config: Any) -> Any:
    return config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config


def load_causal_model(path: str | Path, **options: Any) -> Any:
    """The causal language model of a directory; `options` are transformers' (`dtype`, `attn_implementation`).

    Weights come from safetensors only and no code of the directory is run. Raises WeightsError where they are not all
    that the configuration asks for, which transformers would fill up with random numbers, and RayfitError where they
    cannot be read.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        model, found = AutoModelForCausalLM.from_pretrained(
            path, trust_remote_code=False, use_safetensors=True, output_loading_info=True, **options
        )
    except (torch.OutOfMemoryError, torch.AcceleratorError):
        raise  # of a GPU, where models are loaded straight to it: whoever asked knows what to do
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise RayfitError(f"the model in {path} cannot be loaded: {first_line(error)}") from error
    _refuse(path, "lacks weights that its config asks for", found["missing_keys"])
    mismatched = [name for name, *_ in found["mismatched_keys"]]
    _refuse(path, "has weights of other sizes than its config asks for", mismatched)
    return model


def _refuse(path: str | Path, what: str, names: Iterable[str]) -> None:
    listed = sorted(names)
    if listed:
        more = f" and {len(listed) - _MOST_LISTED} more" if len(listed) > _MOST_LISTED else ""
        raise WeightsError(f"the model in {path} {what}: {', '.join(listed[:_MOST_LISTED])}{more}")
