"""Run Python on what a bundle holds; this file is the bundle's `run.py`.

    python run.py benchmarks/gpu.py
    python run.py -m pytest -rs -m gpu tests/gpu

Paths are those of the bundle. Its packages come before the machine's own.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypedDict

FACTS = "bundle.json"
PACKAGES = "packages.tar.xz"


class Facts(TypedDict):
    """What a bundle is made for and of: `tested` are the versions of what the machine has."""

    python: str
    system: str
    machine: str
    commit: str
    tested: dict[str, str]


def check(made: Facts) -> None:
    """Stop, in one line, where the bundle's compiled packages cannot be imported or torch is missing."""
    here = ("{}.{}".format(*sys.version_info), platform.system(), platform.machine())
    if here != (made["python"], made["system"], made["machine"]):
        raise SystemExit(
            f"bundle: made for Python {made['python']} on {made['system']} {made['machine']}, "
            f"this is Python {' '.join(here)}; `make gpu-bundle PYTHON_VERSION=3.12` makes it for another Python"
        )
    for name, tested in made["tested"].items():
        try:
            found = version(name).partition("+")[0]
        except PackageNotFoundError:
            raise SystemExit(f"bundle: {sys.executable} has no {name}; {tested} is what was tested") from None
        if found != tested:
            print(f"bundle: {name} {found} is here, {tested} is what was tested", file=sys.stderr)


def unpack(bundle: Path) -> None:
    """Unpack the packages, once."""
    archive = bundle / PACKAGES
    if archive.exists():
        shutil.unpack_archive(archive, bundle)
        archive.unlink()


def main() -> None:
    """Check, unpack, and be the Python that was asked for."""
    bundle = Path(__file__).resolve().parent
    made: Facts = json.loads((bundle / FACTS).read_text())
    check(made)
    unpack(bundle)
    os.chdir(bundle)
    path = [str(bundle), *filter(None, [os.environ.get("PYTHONPATH")])]
    known = {"RAYFIT_GIT_COMMIT": made["commit"]} if made["commit"] else {}
    environment = {**os.environ, **known, "PYTHONPATH": os.pathsep.join(path)}
    os.execve(sys.executable, [sys.executable, *sys.argv[1:]], environment)


if __name__ == "__main__":
    main()
