"""What is freed is kept: the next block of its size costs no new pages."""

from __future__ import annotations

import subprocess
import sys

import pytest

_COUNT = """
import ctypes, resource, sys
from rayfit.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
library = ctypes.CDLL(None)
if not hasattr(library, "mallopt"):
    sys.exit(77)
library.malloc.restype, library.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
library.malloc.argtypes, library.memset.argtypes = [ctypes.c_size_t], [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
def once():
    block = library.malloc(48 << 20)
    library.memset(block, 1, 48 << 20)
    library.free(block)
once()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    once()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _page_faults(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", _COUNT, how], capture_output=True, text=True)
    if done.returncode == 77:
        pytest.skip("this platform's allocator has no mallopt")
    return int(done.stdout)


def test_freed_blocks_are_kept() -> None:
    assert _page_faults("keep") < 100 < 1000 < _page_faults("leave")
