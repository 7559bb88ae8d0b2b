"""Pickled weights become safetensors with the same numbers, or are refused in a line that says what to do."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from rayfit.errors import RayfitError
from rayfit.train.convert import convert_weights

FILE = "pytorch_model.bin"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "target"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("as_zip", [True, False])
def test_values_dtypes_and_names_stay_also_of_tensors_that_share_memory(
    tmp_path: Path, target: Path, as_zip: bool
) -> None:
    base = torch.randn(8, 4)
    weights = {
        "tied.a": base,
        "tied.b": base,
        "turned": base.t(),
        "part": base[2:4],
        "half": torch.randn(3).bfloat16(),
        "mask": torch.tensor([True, False]),
    }
    torch.save(weights, tmp_path / FILE, _use_new_zipfile_serialization=as_zip)
    facts = convert_weights(tmp_path, [FILE], target)
    found = load_file(target / "model.safetensors")
    assert found.keys() == weights.keys()
    for name, tensor in weights.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor)
    assert facts["parameters"] == 3 * 32 + 8 + 3
    assert facts["converted_from"] == {FILE: hashlib.sha256((tmp_path / FILE).read_bytes()).hexdigest()}


class _Calls:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self.mark),)


def _saved(folder: Path, kind: str) -> None:
    tensor = torch.randn(64)
    contents: dict[str, Any] = {
        "code": {"a": tensor, "b": _Calls(folder / "ran")},
        "nested": {"a": {"b": tensor}},
        "tensor": tensor,
        "sparse": {"a": tensor.to_sparse()},
    }
    if kind in contents:
        torch.save(contents[kind], folder / FILE)
    elif kind == "protocol":
        torch.save({"a": tensor}, folder / FILE, pickle_protocol=5)
    elif kind == "pointer":
        (folder / FILE).write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    else:
        torch.save({"a": tensor}, folder / FILE, _use_new_zipfile_serialization=kind == "cut")
        whole = (folder / FILE).read_bytes()
        (folder / FILE).write_bytes(whole[: len(whole) // 2 if kind == "cut" else 12])


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize(
    ("kind", "part"),
    [
        ("code", "loader of weights alone (it asks for posix.mkdir)"),
        ("protocol", "loader of weights alone (Unsupported"),
        ("nested", "no mapping of names to tensors"),
        ("tensor", "no mapping of names to tensors"),
        ("sparse", "cannot be written as safetensors"),
        ("pointer", "a Git LFS pointer"),
        ("cut", "a download that was cut off"),
        ("cut short", "a download that was cut off"),
    ],
)
def test_what_is_no_plain_file_of_weights_is_refused(
    tmp_path: Path, target: Path, kind: str, part: str
) -> None:
    _saved(tmp_path, kind)
    with pytest.raises(RayfitError) as caught:
        convert_weights(tmp_path, [FILE], target)
    message = str(caught.value)
    assert message.startswith("--model: ") and part in message and FILE in message
    assert "weights_only" not in message, "nobody is told to switch the protection off"
    assert not (tmp_path / "ran").exists()
