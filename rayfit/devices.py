"""What there is to compute on, and what computed a number, by its name; torch is imported where it is asked for."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

# What a container may use of the machine's CPUs: cgroup's quota and period, in version 2 in one file.
_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_OLD_QUOTA = (Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us"))


def usable_cpus() -> int:
    """CPUs that this process may keep busy: those it may run on, or fewer where a container's quota is less; at least 1."""
    return max(1, int(min(len(os.sched_getaffinity(0)), _quota())))


def _quota() -> float:
    """How many CPUs' time this container may take; infinite where nothing says so."""
    try:
        words = _QUOTA.read_text().split() if _QUOTA.exists() else [file.read_text() for file in _OLD_QUOTA]
        quota, period = map(int, words)
    except (OSError, ValueError):  # "max" is no number
        return math.inf
    return quota / period if quota > 0 and period > 0 else math.inf


def device_name(device: Any) -> str:
    """`cpu`, or a GPU's name with its compute capability, the CUDA that torch is built for, and that of the driver.

    `device`: a torch.device or its name.
    """
    import torch

    device = torch.device(device)
    if device.type != "cuda":
        return str(device)
    card = torch.cuda.get_device_properties(device)
    driver = torch._C._cuda_getDriverVersion()
    return (
        f"{card.name} (compute capability {card.major}.{card.minor}), CUDA {torch.version.cuda}, "
        f"driver for CUDA {driver // 1000}.{driver % 1000 // 10}"
    )


def make_deterministic() -> None:
    """Have torch use those kernels alone, of those that a GPU has, that give the same bits each time.

    cuBLAS has to be told by CUBLAS_WORKSPACE_CONFIG, before the first call. What has no such kernel warns.
    """
    import torch

    torch.use_deterministic_algorithms(True, warn_only=True)
    # Nothing here reads memory that it has not written; filling it would cost a pass over every new tensor.
    torch.utils.deterministic.fill_uninitialized_memory = False
