"""Parts of a Hugging Face directory: the digest of its weights, its config.json and its tokenizer files."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import torch

_TOKENIZER_FILES = ("tokenizer", "special_tokens_map", "added_tokens", "vocab", "merges", "chat_template")


def weights_digest(weights: dict[str, torch.Tensor]) -> str:
    """sha256 in hex over names, shapes and fp32 values, sorted by name."""
    hasher = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().float().cpu().contiguous()
        hasher.update(f"{name}{tuple(tensor.shape)}".encode())
        hasher.update(tensor.numpy().tobytes())
    return hasher.hexdigest()


def write_config(config: Any, target: Path, dtype: torch.dtype) -> None:
    """Write config.json with the dtype of the weights beside it, and the cache on, which training had turned off."""
    content = {**config.to_dict(), "dtype": str(dtype).removeprefix("torch."), "use_cache": True}
    content.pop("_name_or_path", None)
    (target / "config.json").write_text(json.dumps(content, indent=2, sort_keys=True, default=str) + "\n")


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copy the tokenizer's files as they are."""
    for file in source.iterdir():
        if file.is_file() and file.name.startswith(_TOKENIZER_FILES):
            shutil.copyfile(file, target / file.name)
