"""DeepSpeed, imported without what it imports only for others.

Its autotuner imports MLflow, and its Muon optimizer, which it imports to see that ours is another, has torch's compiler
loaded for kernels that are never called here: together three seconds of a core in every worker. Import this before
anything of DeepSpeed's.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def _without_mlflow() -> Iterator[None]:
    """Importing MLflow fails in the block, which DeepSpeed takes for its absence; unless it has been imported already."""
    modules: dict[str, Any] = sys.modules
    if "mlflow" in modules:
        yield
        return
    modules["mlflow"] = None
    try:
        yield
    finally:
        del modules["mlflow"]


@contextmanager
def _without_compiler() -> Iterator[None]:
    """Functions that are to be compiled stay as they are in the block."""
    changed: Any = torch
    compiler = changed.compile
    changed.compile = lambda function=None, **_: (lambda some: some) if function is None else function
    try:
        yield
    finally:
        changed.compile = compiler


with _without_mlflow():
    import deepspeed
with _without_compiler():
    import deepspeed.runtime.zero.muon.muon_optimizer

__all__ = ["deepspeed"]
