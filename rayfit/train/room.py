"""Writing what must be written, however long a storage has no room for it."""

from __future__ import annotations

import errno
import logging
import re
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

AGAIN_SECONDS = 5.0
_NO_ROOM = {errno.ENOSPC, errno.EROFS, errno.EDQUOT}

log = logging.getLogger("rayfit.room")


def with_room(write: Callable[[], T], tell: Callable[[str], None]) -> T:
    """Return what `write` returns, calling it again while it fails because a disk is full or cannot be written now.

    `tell` is told once why that is waited for. Any other error is raised.
    """
    told = False
    while True:
        try:
            return write()
        except Exception as error:
            if not _is_without_room(error):
                raise
            if not told:
                told = True
                words = f"there is no room for what was trained ({error}); waiting until there is"
                log.warning(words)
                tell(words)
            time.sleep(AGAIN_SECONDS)


def _is_without_room(error: Exception) -> bool:
    """Whether the system says so, in an error of its own or in the words of a library that has other errors."""
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        return True
    found = re.search(r"os error (\d+)", str(error))
    return found is not None and int(found[1]) in _NO_ROOM
