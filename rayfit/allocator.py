"""What this process's memory allocator does with what is freed."""

from __future__ import annotations

import ctypes

# The environment of processes that train in a thread, as Ray Train's workers do: a thread's own memory is given back
# whatever `keep_freed_memory` says, which holds for the main thread's alone.
ONE_ARENA = {"MALLOC_ARENA_MAX": "1"}

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # mallopt's names for them in glibc's malloc.h
_LARGEST_KEPT = 1 << 28
_MOST_KEPT = 1 << 30


def keep_freed_memory() -> None:
    """Let the process keep blocks of up to 256 MiB that it frees, 1 GiB in all, for whatever it asks for next.

    By default glibc gives blocks of some megabytes, as the activations of small models are, back to the system and gets
    them again, page by page and zeroed, with each update: up to a quarter of an update's time on a CPU. No result depends
    on it. Where there is no such allocator it does nothing.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT)
        library.mallopt(_TRIM_THRESHOLD, _MOST_KEPT)
