"""What computed a number, by its name; torch is imported where it is asked for."""

from __future__ import annotations

from typing import Any


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
