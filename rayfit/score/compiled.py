"""The compiler of this room's inner loops: once, kept on disk, and without holding the interpreter's lock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """`function` compiled by numba at its first call.

    The machine code is kept beside the source or, where that folder is read-only, in the user's cache folder.
    Functions that call each other belong in one file: numba notices a change of the file only.
    """
    try:
        return cast(F, numba.njit(cache=True, nogil=True)(function))
    except RuntimeError:
        # Neither folder can be written (a container without a home): compiling in every process still works.
        return cast(F, numba.njit(nogil=True)(function))
