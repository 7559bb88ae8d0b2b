"""Pickled PyTorch weights written once more as safetensors, without running what a pickle might hold."""

from __future__ import annotations

import json
import pickle
import re
import shutil
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from rayfit.errors import RayfitError, first_line
from rayfit.identity import file_digest

_INDEX = "pytorch_model.bin.index.json"
_BEGINNINGS = (b"PK", b"\x80")  # a zip archive, or a pickle as before PyTorch 1.6


def convert_weights(source: Path, files: Sequence[str], target: Path) -> dict[str, Any]:
    """Write the pickled weights `files` of the directory `source` into the folder `target` as safetensors.

    File by file, through PyTorch's loader of weights alone, which builds tensors and plain containers and calls nothing
    else. Values, dtypes and names stay; an index is renamed with its files. Returns `converted_from` and
    `converted_to`, the sha256 of each file by name, and `parameters`, the number of their floating-point values.

    Raises RayfitError, naming the file, when it needs more than that loader allows, is damaged, or is no flat mapping
    of names to tensors.
    """
    before, after, parameters = {}, {}, 0
    for name in files:
        _check_room(source / name, target)
        tensors = _load(source / name)
        written = target / _new_name(name)
        parameters += sum(tensor.numel() for tensor in tensors.values() if tensor.is_floating_point())
        _save(tensors, written, name)
        before[name] = file_digest(source / name)
        after[written.name] = file_digest(written)
    if (source / _INDEX).is_file():
        index = json.loads((source / _INDEX).read_text(encoding="utf-8"))
        index["weight_map"] = {name: _new_name(file) for name, file in index["weight_map"].items()}
        (target / _new_name(_INDEX)).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    return {"converted_from": before, "converted_to": after, "parameters": parameters}


def _load(file: Path) -> dict[str, torch.Tensor]:
    try:
        found = _read(file)
    except pickle.UnpicklingError as error:
        raise RayfitError(
            f"--model: {file} is not read by PyTorch's loader of weights alone ({_reason(error)}), and by no other, for "
            "that could run code; ask its makers for safetensors, or give another --revision or model"
        ) from error
    except (RuntimeError, EOFError, ValueError, OSError, struct.error) as error:
        raise RayfitError(
            f"--model: {file} is no file of PyTorch weights ({_reason(error)}); a Git LFS pointer, or a download that "
            "was cut off?"
        ) from error
    if not isinstance(found, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in found.items()
    ):
        raise RayfitError(f"--model: {file} is no mapping of names to tensors, so it is no model's weights")
    return found


def _read(file: Path) -> Any:
    with file.open("rb") as stream:
        if not stream.read(4).startswith(_BEGINNINGS):
            raise ValueError("it begins as neither of their formats does")
    try:
        # Mapped, so that a shard is read as it is written out and not held as a whole.
        return torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except RuntimeError as error:
        if "mmap can only be used" not in str(error):
            raise
        return torch.load(file, map_location="cpu", weights_only=True)  # the format before PyTorch 1.6


def _check_room(file: Path, target: Path) -> None:
    """Raises RayfitError when the disk has no room for the file once more."""
    need, free = file.stat().st_size, shutil.disk_usage(target).free
    if free < need:
        raise RayfitError(
            f"--storage: {file.name} takes {need / 2**30:.1f} GiB again as safetensors, and {target.parent} has "
            f"{free / 2**30:.1f} GiB left"
        )


def _save(tensors: dict[str, torch.Tensor], target: Path, name: str) -> None:
    try:
        save_file(_apart(tensors), target, metadata={"format": "pt"})
    except (KeyError, NotImplementedError, RuntimeError, ValueError, OSError, SafetensorError) as error:
        raise RayfitError(f"--model: {name} cannot be written as safetensors: {_reason(error)}") from error


def _apart(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors, contiguous, and each in memory of its own, as safetensors asks: tied weights share theirs."""
    seen: set[int] = set()
    apart = {}
    for name, tensor in tensors.items():
        place = tensor.untyped_storage().data_ptr()
        whole = tensor.is_contiguous() and tensor.untyped_storage().nbytes() == tensor.nbytes
        apart[name] = (
            tensor if whole and place not in seen else tensor.clone(memory_format=torch.contiguous_format)
        )
        seen.add(place)
    return apart


def _new_name(name: str) -> str:
    return re.sub(r"\.bin\b", ".safetensors", name.replace("pytorch_model", "model", 1))


def _reason(error: Exception) -> str:
    """The loader's own word for what it found, out of its paragraphs of advice."""
    text = str(error)
    if named := re.search(r"(?:GLOBAL|global) (\S+)", text):
        return f"it asks for {named.group(1).strip('`.,')}"
    if named := re.search(r"WeightsUnpickler error:\s*(.+)", text):
        return named.group(1).strip()
    return first_line(error)
