"""Adapters: training a few added low-rank matrices (LoRA) in the place of all weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rayfit.errors import RayfitError, unknown

KINDS = ("lora", "lora-last")
NONE = "none"

_WHERE = "--adapter"
_DEFAULT_RANK = 8

# The scale alpha / rank that an adapter has where no alpha is given, so that another rank does not also change how
# far an update of its matrices moves the weights. Twice the rank is what training frameworks' own recipes use.
_DEFAULT_SCALE = 2

# The last five of TinyLlama's 22 blocks, as a share, so that it means the same for every depth.
_LAST = (5, 22)


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """LoRA (Hu et al. 2021): each adapted matrix W becomes W + alpha / rank * B A, and only A and B are trained.

    `kind`: `lora` adapts every block, `lora-last` the last ceil(5/22 of the) blocks. In an adapted block all linear
    layers are adapted, those of attention and of the MLP. `rank` is the inner dimension of B A, `alpha` its scale
    times the rank; there is no dropout. A starts uniform in +-1/sqrt(inputs), from the trial's training seed, and B
    starts at 0, so training starts at the model itself.
    """

    kind: str = "lora"
    rank: int = _DEFAULT_RANK
    alpha: int = _DEFAULT_SCALE * _DEFAULT_RANK

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown(_WHERE, self.kind, [NONE, *KINDS])
        for name in ("rank", "alpha"):
            if getattr(self, name) < 1:
                raise RayfitError(f"{_WHERE}: {name} expected at least 1; got {getattr(self, name)}")

    @classmethod
    def parse(cls, text: str) -> Adapter | None:
        """The adapter that `none`, `lora`, `lora-last` or `lora:rank=16,alpha=32` names; None for `none`.

        Without `alpha` it is twice the rank. Raises RayfitError for anything else.
        """
        kind, _, settings = text.strip().partition(":")
        if kind == NONE and not settings:
            return None
        if kind not in KINDS:
            raise unknown(_WHERE, kind, [NONE, *KINDS])
        given: dict[str, int] = {}
        for setting in settings.split(",") if settings else []:
            name, _, value = (part.strip() for part in setting.partition("="))
            if name not in ("rank", "alpha"):
                raise unknown(f"{_WHERE}: {kind}", name, ["rank", "alpha"])
            if name in given:
                raise RayfitError(f"{_WHERE}: {name} is given twice in {text!r}")
            if not value.isdecimal():
                raise RayfitError(f"{_WHERE}: {name} expected a whole number; got {value!r} in {text!r}")
            given[name] = int(value)
        rank = given.get("rank", _DEFAULT_RANK)
        return cls(kind=kind, rank=rank, alpha=given.get("alpha", _DEFAULT_SCALE * rank))

    @property
    def text(self) -> str:
        """The shortest text that `parse` reads as this adapter."""
        settings = []
        if self.rank != _DEFAULT_RANK:
            settings.append(f"rank={self.rank}")
        if self.alpha != _DEFAULT_SCALE * self.rank:
            settings.append(f"alpha={self.alpha}")
        return f"{self.kind}:{','.join(settings)}" if settings else self.kind

    def blocks(self, num_layers: int) -> range:
        """The adapted blocks of a model with `num_layers`, counted from 0."""
        share, whole = _LAST
        count = num_layers if self.kind == "lora" else -(-share * num_layers // whole)
        return range(num_layers - count, num_layers)

    def declared(self, num_layers: int) -> dict[str, Any]:
        """The adapter as it enters a trial's id, `blocks` being how many of the last blocks are adapted."""
        return {
            "kind": self.kind,
            "rank": self.rank,
            "alpha": self.alpha,
            "dropout": 0.0,
            "target_modules": "all linear layers of the blocks",
            "blocks": len(self.blocks(num_layers)),
        }
