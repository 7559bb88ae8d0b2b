"""The files of a model, in a directory or on the hub, that are its weights, and their format."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

# What describes a model beside its weights: configuration and tokenizer; a chat template decides nothing here.
_DECIDING = (".json", ".model", ".txt")
_FETCHED = (*_DECIDING, ".jinja")

_SAFETENSORS = re.compile(r"model(-\d+-of-\d+)?\.safetensors")
_OF = re.compile(r"-of-(\d+)\.")
_PICKLED = re.compile(r"pytorch_model(-\d+-of-\d+)?\.bin")


@dataclass(frozen=True)
class Weights:
    """The names of the files that hold a model's weights: `safetensors`, or pickled (`bin`) where there are no others.

    `missing`: how many shards there are besides, by the numbers in the names of those that are here.
    """

    format: Literal["safetensors", "bin"]
    files: tuple[str, ...]

    @property
    def missing(self) -> int:
        """Shards that the names count and that are not among the files."""
        counted = {int(found[1]) for name in self.files if (found := _OF.search(name))}
        return max(0, max(counted, default=0) - len(self.files))


def find_weights(names: Iterable[str]) -> Weights | None:
    """The weights among a model's file names; None where there are none in either format. Folders are not looked into.

    Of a whole file and the same in shards the whole one is taken, as transformers does.
    """
    top = sorted(name for name in names if "/" not in name)
    if found := [name for name in top if _SAFETENSORS.fullmatch(name)]:
        return Weights("safetensors", _whole_or_shards(found, "model.safetensors"))
    if found := [name for name in top if _PICKLED.fullmatch(name)]:
        return Weights("bin", _whole_or_shards(found, "pytorch_model.bin"))
    # Under other names last: an adapter or another part of a pipeline may lie beside the model's own.
    found = [name for name in top if name.endswith(".safetensors")]
    return Weights("safetensors", tuple(found)) if found else None


def _whole_or_shards(names: list[str], whole: str) -> tuple[str, ...]:
    return (whole,) if whole in names else tuple(names)


def deciding_files(names: Iterable[str]) -> list[str]:
    """The files among a model's that decide what it is: configuration, tokenizer and weights; sorted."""
    names = list(names)
    weights = find_weights(names)
    small = [name for name in names if "/" not in name and name.endswith(_DECIDING)]
    return sorted({*small, *(weights.files if weights else ())})


def small_files(names: Iterable[str]) -> list[str]:
    """The files among a model's that describe it: configuration, tokenizer, chat template; sorted."""
    return sorted(name for name in names if "/" not in name and name.endswith(_FETCHED))
