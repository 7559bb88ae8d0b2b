"""A GPU whose memory is not enough, in the words of whoever can do something about it."""

from __future__ import annotations

import re

import torch

_FACTS = re.compile(
    r"Tried to allocate (\S+ \w+)\..*total capacity of (\S+ \w+) of which (\S+ \w+) is free", re.DOTALL
)


def out_of_memory(error: torch.OutOfMemoryError, doing: str) -> str:
    """One line: what was done, what was asked for and what was there, as torch tells it, and the options that need less."""
    found = _FACTS.search(str(error))
    facts = "" if found is None else f": {found[1]} more asked for, {found[3]} of {found[2]} free"
    return (
        f"out of GPU memory {doing}{facts}; --zero-stage 3, more --num-workers, a smaller --batch-size or "
        "--sequence-length, or --adapter need less"
    )
