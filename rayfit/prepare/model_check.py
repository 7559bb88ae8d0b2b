"""Checks of a model's directory before any training: its kind, its tokenizer, its context window.

What transformers finds is remembered, so that a launch with nothing to do need not load it.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from rayfit.errors import RayfitError
from rayfit.prepare.facts import known_facts
from rayfit.prepare.model_shape import context_window
from rayfit.prepare.tokenizer import NO_REMOTE_CODE, load_tokenizer, loaded, model_files
from rayfit.records.storage import Storage


def known_window(path: Path, storage: Storage) -> int | None:
    """What `check_model` finds of a directory, remembered while its configuration and tokenizer stay as they are."""
    libraries = {name: metadata.version(name) for name in ("transformers", "tokenizers")}
    found: int | None = known_facts(storage).of(
        f"context window of {path}", model_files(path), lambda: check_model(path), **libraries
    )
    return found


def check_model(path: Path) -> int | None:
    """The context window (`context_window`) of what lies in `path`.

    Reads the configuration and the tokenizer, not the weights. Raises RayfitError unless transformers itself can build a
    causal language model of it, and as `load_tokenizer`.
    """
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING,
        MODEL_FOR_MASKED_LM_MAPPING,
    )

    config = loaded(path, "config.json", lambda: AutoConfig.from_pretrained(path, trust_remote_code=False))
    # Encoders such as BERT can be built as causal models, but are not unless their configuration says so.
    encoder = type(config) in MODEL_FOR_MASKED_LM_MAPPING and not getattr(config, "is_decoder", False)
    if encoder or type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise RayfitError(
            f"--model: {path} is a model of type {config.model_type!r}, of which transformers has no causal language "
            f"model; only models that predict the next token can be hyperfitted ({NO_REMOTE_CODE})"
        )
    load_tokenizer(path)
    return context_window(config)
