"""The project and what it needs beyond torch and transformers, in one folder for a GPU machine without a network.

    python benchmarks/gpu_bundle.py [--python-version 3.12] [--with polars] [--output build/gpu-bundle]

Packages are copied from this environment, without tests, sources of kernels and bytecode. The machine is a Linux on x86-64;
for another Python than this one, or from another system, what is compiled comes from pip's index in the same versions.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from importlib.metadata import Distribution, distribution, version
from pathlib import Path

from gpu_bundle_run import FACTS, PACKAGES, Facts
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from rayfit.errors import RayfitError
from rayfit.records.provenance import git_commit

ROOT = Path(__file__).resolve().parent.parent
PROJECT = ("rayfit", "sweeps", "benchmarks", "tests", "pyproject.toml", "LICENSE")
# On the machine: these and what they themselves ask for. What those bring along in turn differs between versions.
THERE = ("torch", "transformers")
# The machine has typing-extensions too, but maybe none as new as pydantic needs.
WANTED = ("deepspeed", "accelerate", "msgspec", "pytest", "pytest-timeout", "typing-extensions")
# DeepSpeed's kernels are compiled nowhere here.
NOT_WANTED = ("ninja",)
LEFT_OUT = ("__pycache__", "csrc", "tests")
LIMIT = 60
TARGET = ("Linux", "x86_64")
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
MIB = 2**20


def needs(package: Distribution) -> list[str]:
    """The packages that a package asks for here, extras aside."""
    asked = map(Requirement, package.requires or ())
    return [
        canonicalize_name(each.name)
        for each in asked
        if each.marker is None or each.marker.evaluate({"extra": ""})
    ]


def packages(wanted: Iterable[str]) -> list[Distribution]:
    """The wanted packages and all that they need, but for what the machine has."""
    there = {*THERE, *(name for package in THERE for name in needs(distribution(package)))}
    found: dict[str, Distribution] = {}
    left: list[str] = [canonicalize_name(name) for name in wanted]
    seen = {*(there - set(left)), *NOT_WANTED}
    while left:
        name = left.pop()
        if name not in seen:
            seen.add(name)
            found[name] = distribution(name)
            left += needs(found[name])
    return list(found.values())


def copy_package(package: Distribution, target: Path) -> None:
    """Copy the files of an installed package, its metadata among them, without what nobody imports."""
    for file in package.files or ():
        if file.parts[0] != ".." and not set(file.parts) & set(LEFT_OUT):
            copy = target / file
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(str(file.locate()), copy)


def is_compiled(package: Distribution) -> bool:
    """Whether it holds machine code."""
    return any(file.suffix in (".so", ".dylib", ".pyd") for file in package.files or ())


def download(found: list[Distribution], python_version: str, target: Path) -> None:
    """Unpack the wheels of packages, in the versions that are installed here, for the machine's Python."""
    pins = [f"{package.name}=={package.version}" for package in found]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        command += ["--implementation", "cp", "--python-version", python_version, "--dest", folder]
        command += [f"--platform={name}" for name in PLATFORMS]
        if subprocess.run([*command, *pins]).returncode:
            raise RayfitError(
                f"gpu-bundle: pip found no wheels for Python {python_version} on {' '.join(TARGET)}: {' '.join(pins)}"
            )
        for wheel in Path(folder).glob("*.whl"):
            shutil.unpack_archive(wheel, Path(folder) / "all", format="zip")
        leave_out = shutil.ignore_patterns(*LEFT_OUT)
        shutil.copytree(Path(folder) / "all", target, ignore=leave_out, dirs_exist_ok=True)


def add_packages(wanted: Iterable[str], python_version: str, target: Path) -> None:
    """Put the wanted packages and what they need into a folder."""
    found = packages(wanted)
    is_like_here = (*TARGET, python_version) == (
        platform.system(),
        platform.machine(),
        "{}.{}".format(*sys.version_info),
    )
    elsewhere = [] if is_like_here else [package for package in found if is_compiled(package)]
    for package in found:
        if package not in elsewhere:
            copy_package(package, target)
    if elsewhere:
        download(elsewhere, python_version, target)


def add_project(target: Path) -> None:
    """Put the project and what starts it there into a folder."""
    for name in PROJECT:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target / name)
    shutil.copy(ROOT / "benchmarks" / "gpu_bundle_run.py", target / "run.py")


def facts(python_version: str) -> Facts:
    """What is checked on the machine, and the commit, which is not found there."""
    return {
        "python": python_version,
        "system": TARGET[0],
        "machine": TARGET[1],
        "commit": git_commit() or "",
        "tested": {name: version(name).partition("+")[0] for name in THERE},
    }


def num_bytes(path: Path) -> int:
    """The size of a file, or of all files in a folder."""
    return sum(file.stat().st_size for file in (path, *path.rglob("*")) if file.is_file())


def largest(folder: Path) -> str:
    """The five largest parts of a folder, in words."""
    sizes = sorted((num_bytes(part), part.name) for part in folder.iterdir())
    return ", ".join(f"{name} {size / MIB:.1f} MiB" for size, name in reversed(sizes[-5:]))


def build(target: Path, python_version: str, more: tuple[str, ...] = ()) -> int:
    """Make the bundle in an empty folder; its size in bytes.

    With `more` packages all of them are in one archive, which is unpacked at the first run. Raises RayfitError when the
    bundle is larger than the limit, with its largest parts.
    """
    add_project(target)
    (target / FACTS).write_text(json.dumps(facts(python_version), indent=1) + "\n")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) if more else target
        add_packages((*WANTED, *more), python_version, place)
        if more:
            shutil.make_archive(str(target / PACKAGES.removesuffix(".tar.xz")), "xztar", place)
        size = num_bytes(target)
        if size >= LIMIT * MIB:
            raise RayfitError(
                f"gpu-bundle: {size / MIB:.1f} MiB, but at most {LIMIT}; the largest, unpacked: {largest(place)}"
            )
    return size


def replace(output: Path, python_version: str, more: tuple[str, ...]) -> int:
    """Make the bundle beside its place, then put it there; its size in bytes."""
    if output.exists() and not (output / FACTS).exists():
        raise RayfitError(f"gpu-bundle: {output} is there and is no bundle; give another --output")
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent) as folder:
        made = Path(folder) / "made"
        made.mkdir()
        size = build(made, python_version, more)
        shutil.rmtree(output, ignore_errors=True)
        made.rename(output)
    return size


def main() -> None:
    """Make the bundle and say how it is used."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--python-version", default="{}.{}".format(*sys.version_info), help="the machine's")
    parser.add_argument("--with", dest="more", action="append", default=[], help="one more; all are packed")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "gpu-bundle")
    given = parser.parse_args()
    try:
        size = replace(given.output.absolute(), given.python_version, tuple(given.more))
    except RayfitError as error:
        raise SystemExit(str(error)) from None
    print(
        f"{given.output}: {size / MIB:.1f} MiB for Python {given.python_version} on {' '.join(TARGET)}. There:\n"
        "  python gpu-bundle/run.py -m pytest -rs -m gpu tests/gpu\n"
        "  python gpu-bundle/run.py benchmarks/gpu.py"
    )


if __name__ == "__main__":
    main()
