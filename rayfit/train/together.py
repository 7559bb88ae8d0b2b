"""What all ranks of a training learn from each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch.distributed as dist

T = TypeVar("T")


def from_rank_0(make: Callable[[], T]) -> T:
    """What rank 0 makes, on every rank. All must call it."""
    box: list[Any] = [make() if dist.get_rank() == 0 else None]
    if dist.get_world_size() > 1:
        dist.broadcast_object_list(box, src=0)
    made: T = box[0]
    return made


def from_all(value: T) -> list[T]:
    """Every rank's value, in their order, on every rank. All must call it."""
    if dist.get_world_size() == 1:
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values
