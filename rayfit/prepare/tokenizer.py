"""Demands on a model's tokenizer, what it puts in front of a text by itself, and the embedded models' own."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from rayfit.errors import RayfitError
from rayfit.records.storage import read_json

_PROBE = "a b"


def check_round_trip(tokenizer: Any, path: Path) -> None:
    """Raises RayfitError when a text does not come back from its own ids, as from a tokenizer that loses every space.

    transformers below 5.22 loads DeepSeek's so, without an error (huggingface/transformers issues 45488 and 48206).
    """
    ids = tokenizer(_PROBE, add_special_tokens=False)["input_ids"]
    back = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    # Some begin every text with a space of their own.
    if back.removeprefix(" ") != _PROBE:
        raise RayfitError(
            f"--model: the tokenizer of {path} does not give a text back: {_PROBE!r} becomes {back!r} under transformers "
            f"{metadata.version('transformers')}, so training and texts would be ruined; install transformers 5.22 or "
            "newer, which reads more tokenizers rightly, or mend tokenizer_class in its tokenizer_config.json"
        )


def leading_bos(tokenizer: Any, path: Path) -> int | None:
    """The BOS id that the tokenizer of a model's directory puts before a text by itself; None where it puts none.

    `add_bos_token` in its tokenizer_config.json says so (transformers 5 drops that key where there is a tokenizer.json);
    where it is not there, the tokenizer's post-processor does. A BOS that a tokenizer has and does not add is none:
    SmolLM2-Instruct's begins a chat's turn.
    """
    bos: int | None = tokenizer.bos_token_id
    if bos is None:
        return None
    stated = (read_json(path / "tokenizer_config.json") or {}).get("add_bos_token")
    if stated is not None:
        return bos if stated else None
    ids = tokenizer(_PROBE)["input_ids"]
    return bos if ids and ids[0] == bos else None


def made_tokenizer(path: Path) -> tuple[Callable[[str], list[int]], int | None]:
    """(text -> ids without special tokens, BOS id) of an embedded model, as transformers gives them.

    It is a plain tokenizer.json that was written here, so it is read without transformers, whose torch takes seconds.
    """
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
    bos = tokenizer.token_to_id((read_json(path / "tokenizer_config.json") or {})["bos_token"])
    return lambda text: list(tokenizer.encode(text, add_special_tokens=False).ids), bos
