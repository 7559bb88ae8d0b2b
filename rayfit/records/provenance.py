"""What made a number: library versions, the git commit, the time."""

from __future__ import annotations

import platform
import subprocess
from datetime import UTC, datetime
from functools import lru_cache
from importlib import metadata
from os import environ
from pathlib import Path
from typing import Any

_LIBRARIES = (
    "rayfit",
    "torch",
    "transformers",
    "deepspeed",
    "ray",
    "mlflow",
    "polars",
    "numpy",
    "numba",
    "tokenizers",
)


def now() -> str:
    """The time in UTC, ISO 8601 with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def provenance() -> dict[str, Any]:
    """`versions` by library, and `git_commit` (with `+changes` where the tree is not clean; null outside a checkout)."""
    return {"versions": library_versions(), "git_commit": git_commit()}


@lru_cache
def library_versions() -> dict[str, str]:
    """Versions of Python and of the libraries that decide numbers."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in _LIBRARIES}}


@lru_cache
def git_commit() -> str | None:
    """The commit of the rayfit that runs; RAYFIT_GIT_COMMIT wins, since jobs travel without their .git folder."""
    if given := environ.get("RAYFIT_GIT_COMMIT"):
        return given
    root = Path(__file__).resolve().parents[2]
    try:
        commit = _git(root, "rev-parse", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+changes" if changed else "")


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()
