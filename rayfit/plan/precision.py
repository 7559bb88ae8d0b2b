"""The precision that `auto` is: what this machine's CPU is good at, read from its flags, without torch."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

AUTO = "auto"

_CPU_INFO = Path("/proc/cpuinfo")
_BF16_FLAGS = {"amx_bf16": "AMX", "avx512_bf16": "AVX512-BF16"}

# oneDNN, which computes for PyTorch on x86, can be held to older instructions; these lack those that multiply bf16.
_ISA_LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
_ISAS_WITHOUT_BF16 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI")


@dataclass(frozen=True)
class Precision:
    """`fp32` or `bf16`, and why where `auto` was asked for, else an empty reason."""

    name: str
    reason: str = ""

    @property
    def described(self) -> str:
        """The name with its reason behind it, if there is one."""
        return f"{self.name} ({self.reason})" if self.reason else self.name


def resolve_precision(asked: str, *, use_gpu: bool) -> Precision:
    """Return what `--precision` comes to: `auto` is bf16 on GPUs and on CPUs that multiply bf16 numbers, else fp32.

    A CPU without such instructions emulates them, at two to four times the time of fp32.
    """
    if asked != AUTO:
        return Precision(asked)
    return Precision("bf16", "auto: on GPUs") if use_gpu else cpu_precision()


def cpu_precision() -> Precision:
    """Return the precision in which this machine's CPU computes fastest, with the reason."""
    limit = next((value for name in _ISA_LIMITS if (value := os.environ.get(name, "").upper())), "")
    if limit in _ISAS_WITHOUT_BF16:
        return Precision("fp32", f"auto: {_ISA_LIMITS[0]}={limit} leaves bf16 instructions out")
    found = [name for flag, name in _BF16_FLAGS.items() if flag in _cpu_flags(_CPU_INFO)]
    if not found:
        return Precision("fp32", "auto: this CPU has no bf16 instructions")
    return Precision("bf16", f"auto: this CPU has bf16 instructions, {' and '.join(found)}")


@cache
def _cpu_flags(file: Path) -> frozenset[str]:
    """The flags of the first CPU that Linux lists; none where there is no such list."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    flags = next((line for line in lines if line.startswith("flags")), "")
    return frozenset(flags.partition(":")[2].split())
