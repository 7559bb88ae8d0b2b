"""Every benchmark runs, in a form of seconds; how fast anything is, is asserted nowhere."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.integration

KEPT = ROOT / "benchmarks" / "results.json"


def quick(name: str) -> str:
    """What the quick form of a benchmark prints."""
    before = KEPT.read_bytes()
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), "--quick"],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert KEPT.read_bytes() == before, "a quick form keeps nothing"
    return done.stdout


def results(printed: str) -> list[str]:
    """The lines of a table without its head."""
    return [line for line in printed.splitlines() if line.startswith("| ")][1:]


@pytest.mark.parametrize("name", ["training", "corpus", "gpu", "state"])
def test_a_benchmark_measures_what_it_names(name: str) -> None:
    assert results(quick(name))


def test_the_page_shows_what_is_kept() -> None:
    page = (ROOT / "docs" / "performance.md").read_text()
    for benchmark, kinds in json.loads(KEPT.read_text()).items():
        for kind, found in kinds.items():
            assert f"### {benchmark}, {kind}" in page
            assert found["machine"] in page and found["date"] in page


def test_generation_needs_a_storage_with_a_trial(tmp_path: Path) -> None:
    script = str(ROOT / "benchmarks" / "generation.py")
    done = subprocess.run(
        [sys.executable, script, "--quick", "--storage", str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 1 and "run `make quickstart` first" in done.stderr
