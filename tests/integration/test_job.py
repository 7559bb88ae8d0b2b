"""The same script as a job on a Ray that runs already."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.launching import ROOT, SMALL, summary, trial_records
from tests.patience import finish
from tests.workers import free_port

pytestmark = pytest.mark.integration

BIN = Path(sys.executable).parent


@pytest.fixture
def running_ray(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A Ray of two CPUs and, as it believes, a GPU, in processes of its own; gives the environment for `ray job`."""
    environment = {
        **os.environ,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "RAY_AUTH_MODE": "disabled",
        "RAY_ADDRESS": "",
    }
    port = free_port()
    command = [
        "ray",
        "start",
        "--head",
        "--block",
        f"--port={free_port()}",
        f"--dashboard-port={port}",
        "--num-cpus=2",
        "--num-gpus=1",  # which Ray takes at its word: there is none
    ]
    head = subprocess.Popen(
        [*command, "--disable-usage-stats", "--object-store-memory=134217728"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_until_up(f"{address}/api/version")
        yield {**environment, "RAY_API_SERVER_ADDRESS": address}
    finally:
        head.terminate()
        head.wait(60)


def _wait_until_up(url: str) -> None:
    for _ in range(240):
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise AssertionError(f"{url} did not come up")


def _submit(environment: dict[str, str], storage: Path, *arguments: object) -> tuple[int, str]:
    """The exit status of a submitted job, and what it printed."""
    words = ["ray", "job", "submit", "--working-dir", str(ROOT), "--", "python", "sweeps/data_quantity.py"]
    for _ in range(60):
        process = subprocess.Popen(
            [*words, *map(str, arguments)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        output = finish(process, storage)
        # What takes jobs comes up some seconds after the dashboard does.
        if "No available agent to submit job" not in output:
            return process.returncode, output
        time.sleep(1)
    raise AssertionError(output)


def test_a_job_joins_the_running_ray(running_ray: dict[str, str], storage_root: Path) -> None:
    options = (*SMALL, "--samples", "8", "--num-updates", "48", "--contexts", "8", "--validation-rows", "8")
    status, output = _submit(running_ray, storage_root, *options)
    assert status != 0 and "--storage: on a running Ray it must be an absolute path" in output
    tracking = f"sqlite:///{storage_root}/elsewhere.db"
    options = (*options, "--storage", storage_root, "--tracking-uri", tracking)
    status, output = _submit(running_ray, storage_root, *options)
    assert status != 0 and "--precision: on a running Ray" in output
    status, output = _submit(running_ray, storage_root, *options, "--use-gpu")
    assert status != 0 and re.search(
        r"^error: --use-gpu: torch .* (build for CPUs alone|can use no GPU)", output, re.M
    )
    assert "making" not in output, "before anything is made"
    status, output = _submit(running_ray, storage_root, *options, "--precision", "fp32")
    assert status == 0, output
    assert "1 trials: reused 0, running 1" in output
    assert trial_records(storage_root)[8].num_updates == 48
    assert [row["status"] for row in summary(storage_root)] == ["FINISHED"] * 3
    assert (storage_root / "elsewhere.db").exists()
