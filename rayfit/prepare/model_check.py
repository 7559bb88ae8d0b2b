"""Checks of a model's directory before any training: its kind, its tokenizer, its context window.

What transformers finds is remembered, so that a launch with nothing to do need not load it.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from rayfit.errors import RayfitError, first_line
from rayfit.plan.weights import small_files
from rayfit.prepare.facts import known_facts
from rayfit.prepare.model_shape import context_window
from rayfit.prepare.tokenizer import check_round_trip, leading_bos
from rayfit.records.storage import Storage

_NO_REMOTE_CODE = "code that comes with a model is never run"


def known_window(path: Path, storage: Storage) -> int | None:
    """What `check_model` finds of a directory, remembered while its configuration and tokenizer stay as they are."""
    files = [path / name for name in small_files(file.name for file in path.iterdir())]
    libraries = {name: metadata.version(name) for name in ("transformers", "tokenizers")}
    found: int | None = known_facts(storage).of(
        f"context window of {path}", files, lambda: check_model(path), **libraries
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

    config = _loaded(path, "config.json", lambda: AutoConfig.from_pretrained(path, trust_remote_code=False))
    # Encoders such as BERT can be built as causal models, but are not unless their configuration says so.
    encoder = type(config) in MODEL_FOR_MASKED_LM_MAPPING and not getattr(config, "is_decoder", False)
    if encoder or type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise RayfitError(
            f"--model: {path} is a model of type {config.model_type!r}, of which transformers has no causal language "
            f"model; only models that predict the next token can be hyperfitted ({_NO_REMOTE_CODE})"
        )
    load_tokenizer(path)
    return context_window(config)


def load_tokenizer(path: Path) -> tuple[Callable[[str], list[int]], int | None]:
    """(text -> ids without special tokens, leading BOS id or None) of a model's directory; no code of it is run.

    Raises RayfitError when there is no tokenizer, or it is broken or loses text.
    """
    from transformers import AutoTokenizer

    tokenizer = _loaded(
        path, "tokenizer", lambda: AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    )
    check_round_trip(tokenizer, path)
    bos_id = leading_bos(tokenizer, path)
    return lambda text: list(tokenizer(text, add_special_tokens=False)["input_ids"]), bos_id


def _loaded(path: Path, what: str, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except Exception as error:  # tokenizers raises Exception itself for a file that it cannot read
        raise RayfitError(
            f"--model: the {what} of {path} cannot be loaded by transformers: {first_line(error)} ({_NO_REMOTE_CODE})"
        ) from error
