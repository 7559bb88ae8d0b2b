"""Tokenizers of models: what is demanded of them, what they put in front of a text, and how they are read."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from rayfit.errors import RayfitError, first_line
from rayfit.plan.weights import small_files
from rayfit.prepare.facts import known_facts
from rayfit.records.storage import Storage, read_json

NO_REMOTE_CODE = "code that comes with a model is never run"
_PROBE = "a b"
_FILE = "tokenizer.json"


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


Tokenizing = tuple[Callable[[str], list[int]], int | None]
"""A text's ids without special tokens, and the id that stands before every text, or None."""


def made_tokenizer(path: Path) -> Tokenizing:
    """The tokenizer of an embedded model and its BOS, as transformers gives them.

    It is a plain tokenizer.json that was written here, so it is read without transformers, whose torch takes seconds.
    """
    tokenizer = _own(path)
    bos = (read_json(path / "tokenizer_config.json") or {})["bos_token"]
    return _plain(tokenizer), tokenizer.token_to_id(bos)


def known_tokenizer(path: Path, storage: Storage) -> Tokenizing:
    """As `load_tokenizer`, and without transformers where it is remembered that this model's needs nothing of it."""
    libraries = {name: metadata.version(name) for name in ("transformers", "tokenizers")}
    # None where transformers is needed, else what stands before a text.
    leading: list[int | None] | None = known_facts(storage).of(
        f"plain tokenizer of {path}", model_files(path), lambda: _leading_of_plain(path), **libraries
    )
    return load_tokenizer(path) if leading is None else (_plain(_own(path)), leading[0])


def load_tokenizer(path: Path) -> Tokenizing:
    """The tokenizer of a model's directory as transformers loads it, and its leading BOS; no code of it is run.

    Raises RayfitError when there is no tokenizer, or it is broken or loses text.
    """
    tokenizer = _by_transformers(path)
    check_round_trip(tokenizer, path)
    bos_id = leading_bos(tokenizer, path)
    return lambda text: list(tokenizer(text, add_special_tokens=False)["input_ids"]), bos_id


def _leading_of_plain(path: Path) -> list[int | None] | None:
    if not (path / _FILE).exists():
        return None
    tokenizer = _by_transformers(path)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or _encoding_of(backend) != _encoding_of(_own(path)):
        return None
    return [leading_bos(tokenizer, path)]


def _encoding_of(tokenizer: Any) -> dict[str, Any]:
    """All of a tokenizer that decides a text's ids where no special tokens are added, nothing is cut or filled up."""
    whole: dict[str, Any] = json.loads(tokenizer.to_str())
    return {
        name: part for name, part in whole.items() if name not in ("post_processor", "truncation", "padding")
    }


def _own(path: Path) -> Any:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(path / _FILE))


def _plain(tokenizer: Any) -> Callable[[str], list[int]]:
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return lambda text: list(tokenizer.encode(text, add_special_tokens=False).ids)


def _by_transformers(path: Path) -> Any:
    from transformers import AutoTokenizer

    return loaded(path, "tokenizer", lambda: AutoTokenizer.from_pretrained(path, trust_remote_code=False))


def loaded(path: Path, what: str, load: Callable[[], Any]) -> Any:
    """What `load` gives of a model's directory; whatever transformers raises is told as RayfitError."""
    try:
        return load()
    except Exception as error:  # tokenizers raises Exception itself for a file that it cannot read
        raise RayfitError(
            f"--model: the {what} of {path} cannot be loaded by transformers: {first_line(error)} ({NO_REMOTE_CODE})"
        ) from error


def model_files(path: Path) -> list[Path]:
    """A model's configuration and tokenizer files."""
    return [path / name for name in small_files(file.name for file in path.iterdir())]
