"""Parts of a Hugging Face directory: its weights and their digest, its config.json and its tokenizer files."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from rayfit.errors import RayfitError

_TOKENIZER_FILES = ("tokenizer", "special_tokens_map", "added_tokens", "vocab", "merges", "chat_template")


def weights_digest(weights: dict[str, torch.Tensor]) -> str:
    """sha256 in hex over names, shapes and fp32 values, sorted by name."""
    hasher = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().float().cpu().contiguous()
        hasher.update(f"{name}{tuple(tensor.shape)}".encode())
        hasher.update(tensor.view(-1).numpy().data)  # as it lies there, without a copy
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


def file_tensors(model_path: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """(name, tensor) of every tensor of a directory's safetensors files, read one at a time."""
    for file in sorted(model_path.glob("*.safetensors")):
        with safe_open(os.fspath(file), framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - a safetensors handle is no mapping
                yield name, tensors.get_tensor(name)


def file_values(model_path: Path, names: Iterable[str], prefix: str) -> Iterator[tuple[str, torch.Tensor]]:
    """(name, tensor) of a directory's tensors for a model's parameters of these names, each once, in the file's order.

    `prefix` is the bare model's within the whole: a file may be written with or without it. Raises RayfitError at the
    end when a parameter has no tensor of its name in the files.
    """
    waiting = set(names)
    for name, tensor in file_tensors(model_path):
        for candidate in (name, f"{prefix}.{name}", name.removeprefix(f"{prefix}.")):
            if candidate in waiting:
                waiting.remove(candidate)
                yield candidate, tensor
                break
    if waiting:
        raise RayfitError(
            f"--model: {model_path} holds no tensor for {', '.join(sorted(waiting)[:3])} ({len(waiting)} in all)"
        )
