"""The engines that can generate texts, by name, and how to get them."""

from __future__ import annotations

from importlib.util import find_spec

from rayfit.errors import RayfitError, unknown

ENGINES = ("transformers", "vllm")
VLLM_INSTALL = 'pip install "rayfit[vllm]"'


def check_engine(name: str) -> None:
    """Raise RayfitError for an unknown engine, and for one that is not installed here, with how to get it.

    Imports nothing, so that a launch finds out before it starts anything.
    """
    if name not in ENGINES:
        raise unknown("--engine", name, ENGINES)
    if name == "vllm" and find_spec("vllm") is None:
        raise RayfitError(not_installed("no module named 'vllm'"))


def not_installed(why: str) -> str:
    """Return what to say where vLLM cannot be imported."""
    return (
        f"--engine vllm: vLLM is not installed here ({why}); on a Linux machine with a GPU: {VLLM_INSTALL}; "
        "or use --engine transformers"
    )
