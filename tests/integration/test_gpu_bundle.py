"""The bundle for a GPU machine: small enough, and importable beside what comes with torch and transformers alone."""

from __future__ import annotations

import json
import os
import platform
import runpy
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest

from rayfit.errors import RayfitError
from tests.conftest import ROOT

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(
        (platform.system(), platform.machine()) != ("Linux", "x86_64"),
        reason="what is compiled would come from pip's index",
    ),
]

PYTHON = "{}.{}".format(*sys.version_info)
TRAINS = "import tests.gpu.test_training, rayfit.train.loop, rayfit.train.engine, rayfit.train.reset, rayfit.plan.trials"


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    """What the script that makes bundles defines."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        return runpy.run_path(str(ROOT / "benchmarks" / "gpu_bundle.py"))


@pytest.fixture(scope="module")
def bundle(script: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    assert script["build"](folder, PYTHON) < script["LIMIT"] * script["MIB"]
    return folder


def machine(needs: Callable[[Any], list[str]], folder: Path) -> Path:
    """A folder with links to torch, transformers and all that those bring along, and to nothing else."""
    seen, left = set(), ["torch", "transformers"]
    while left:
        name = left.pop()
        if name not in seen:
            seen.add(name)
            package = distribution(name)
            left += needs(package)
            for top in {file.parts[0] for file in package.files or ()} - {"..", "__pycache__"}:
                if not (folder / top).exists():
                    (folder / top).symlink_to(package.locate_file(top))
    return folder


def test_it_holds_neither_bytecode_nor_what_is_too_large(bundle: Path) -> None:
    assert not {path.name for path in bundle.rglob("*")} & {"__pycache__", "csrc"}
    top = {path.name for path in bundle.iterdir()}
    assert {"run.py", "bundle.json", "rayfit", "benchmarks", "tests", "deepspeed", "msgspec"} <= top
    assert not top & {"polars", "numba", "ray", "torch", "transformers", "numpy"}


def test_training_is_imported_beside_torch_and_transformers_alone(
    script: dict[str, Any], bundle: Path, tmp_path: Path
) -> None:
    path = os.pathsep.join([str(bundle), str(machine(script["needs"], tmp_path))])
    code = f"{TRAINS}; import sys; print(sys.modules['deepspeed'].__file__, sys.modules['rayfit'].__file__)"
    done = subprocess.run(
        [sys.executable, "-S", "-B", "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert all(file.startswith(str(bundle)) for file in done.stdout.split()[-2:])


def test_another_python_is_refused_in_a_line(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "run.py").write_text((bundle / "run.py").read_text())
    made = json.loads((bundle / "bundle.json").read_text())
    (tmp_path / "bundle.json").write_text(json.dumps({**made, "python": "3.1"}))
    done = subprocess.run([sys.executable, str(tmp_path / "run.py")], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("bundle: made for Python 3.1 on Linux x86_64")


def test_a_bundle_above_the_limit_is_refused_with_its_largest_parts(
    script: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(script["build"].__globals__, "LIMIT", 1)
    with pytest.raises(RayfitError, match=r"but at most 1; the largest, unpacked: deepspeed \d"):
        script["build"](tmp_path, PYTHON)
