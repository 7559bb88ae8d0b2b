"""Run Python in a fresh process, as a user's shell would, and see what it imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "ray", "mlflow", "deepspeed", "transformers")


def run_python(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """`python ...` with one thread per library; its output as text, whatever its exit status."""
    threads = {"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, **threads},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def heavy_modules_after(code: str) -> list[str]:
    """Which of the heavy libraries a fresh interpreter has imported after `code`."""
    done = run_python(
        "-c", f"import sys\n{code}\nprint('HEAVY', *[name for name in {HEAVY} if name in sys.modules])"
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].split()[1:]
