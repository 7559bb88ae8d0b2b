"""Writing what must be written, however long a storage has no room for it."""

from __future__ import annotations

import errno
import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch.distributed as dist

from rayfit.train.together import from_rank_0

T = TypeVar("T")

AGAIN_SECONDS = 5.0
_NO_ROOM = {errno.ENOSPC, errno.EROFS, errno.EDQUOT}

log = logging.getLogger("rayfit.room")


@dataclass(frozen=True)
class _NoRoom:
    """What the system, or a library, says of it."""

    words: str


def with_room(write: Callable[[], T], tell: Callable[[str], None]) -> T:
    """What `write` returns on rank 0, on every rank; all call it.

    Rank 0 calls it again while it fails because a disk is full or cannot be written now, and `tell` is told once there
    why that is waited for: each try is a collective of its own, so that none waits too long. Any other error is raised.
    """
    told = False
    while True:
        outcome = from_rank_0(lambda: _tried(write))
        if not isinstance(outcome, _NoRoom):
            return outcome
        if not told and dist.get_rank() == 0:
            words = f"there is no room for what was trained ({outcome.words}); waiting until there is"
            log.warning(words)
            tell(words)
        told = True
        time.sleep(AGAIN_SECONDS)


def _tried(write: Callable[[], T]) -> T | _NoRoom:
    try:
        return write()
    except Exception as error:
        if not _is_without_room(error):
            raise
        return _NoRoom(str(error))


def _is_without_room(error: Exception) -> bool:
    """Whether the system says so, in an error of its own or in the words of a library that has other errors."""
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        return True
    found = re.search(r"os error (\d+)", str(error))
    return found is not None and int(found[1]) in _NO_ROOM
