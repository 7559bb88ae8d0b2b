"""Sweeps under kills, drained and lost nodes and other launches: each ends with the bits of an undisturbed one."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from rayfit.prepare.facts import KNOWN_FACTS
from rayfit.records.states import all_states, kept_points
from rayfit.records.storage import Storage
from rayfit.records.trial import TrialRecord
from rayfit.track.connection import connect
from tests.conftest import with_the_model
from tests.launching import SMALL, launch, start, trial_records
from tests.patience import files_of, finish, wait_for
from tests.processes import descendants
from tests.workers import free_port

pytestmark = [pytest.mark.integration, pytest.mark.faults]

UPDATES = 400
OPTIONS = (
    *(*SMALL, "--samples", "16", "--num-updates", str(UPDATES), "--eval-every", "20"),
    *("--contexts", "8", "--validation-rows", "8", "--precision", "fp32"),
)


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory, made: Path) -> TrialRecord:
    """The trial when nothing happens."""
    root = with_the_model(made, tmp_path_factory.mktemp("calm") / "runs", "texts", KNOWN_FACTS)
    launch(*OPTIONS, "--storage", root)
    return trial_records(root)[16]


def _reached(root: Path, update: int, *, launches: int = 1) -> str | None:
    """The id of the trial, once it has a point of this update and, if asked for, was begun so often."""
    storage = Storage(root)
    for folder in (root / "trials").glob("*"):
        log = folder / "logs" / "rank0.log"
        begun = log.exists() and log.read_text().count(" in group ") >= launches
        if begun and max(kept_points(storage, folder.name), default=0) >= update:
            return folder.name
    return None


def _process(root: Path, trial_id: str) -> int:
    log = root / "trials" / trial_id / "logs" / "rank0.log"
    return int(re.findall(r"process (\d+)", log.read_text())[-1])


def _wait(root: Path, found: Callable[[], Any], what: str) -> Any:
    return wait_for(found, what, partial(files_of, root))


def _runs(root: Path, trial_id: str) -> list[Any]:
    client = connect(None, Storage(root))
    found = client.get_experiment_by_name("rayfit/data_quantity")
    assert found is not None
    return list(client.search_runs([found.experiment_id], f"tags.`rayfit.trial_id` = '{trial_id}'"))


def _same(record: TrialRecord, calm: TrialRecord) -> bool:
    same_kept = record.final.train_loss == calm.final.train_loss
    return record.weights_sha256 == calm.weights_sha256 and same_kept


def test_a_worker_that_is_killed_five_times_and_tune_s_actor(storage_root: Path, calm: TrialRecord) -> None:
    root = storage_root
    process = start(*OPTIONS, "--storage", root, "--checkpoint-every", "25")
    try:
        for number in range(5):
            update = 40 + 60 * number
            reached = partial(_reached, root, update, launches=number + 1)
            trial_id = _wait(root, reached, f"update {update}")
            os.kill(_process(root, trial_id), signal.SIGKILL)
            if number == 1:
                (actor,) = descendants(process.pid, "ray::ImplicitFunc")
                os.kill(actor, signal.SIGKILL)
        output = finish(process, root)
    finally:
        process.kill()
    assert process.returncode == 0, output
    record = trial_records(root)[16]
    assert _same(record, calm)
    begun = [stretch.after for stretch in record.stretches]
    assert len(begun) == 6 and begun == sorted(begun) and begun[1] >= 25
    assert output.count("its training was cut off") == 5
    (run,) = _runs(root, record.id)
    assert run.info.status == "FINISHED", "one run, though its training was cut off five times"


def test_two_launches_of_one_sweep_and_two_sweeps_with_one_trial(
    storage_root: Path, calm: TrialRecord
) -> None:
    root = storage_root
    first = start(*OPTIONS, "--storage", root, "--num-cpus", "1")
    try:
        _wait(root, partial(_reached, root, 20), "a training under way")
        output = launch(*OPTIONS, "--storage", root, status=3)
        assert re.search(rf"this sweep is run already, by process {first.pid} on .+ since 20", output)
        # Another question with the same trial: it waits, and reuses it.
        other = launch(*OPTIONS, "--samples", "16,8", "--storage", root, "--num-cpus", "1")
        assert "it is trained by process" in other
        finished = finish(first, root)
    finally:
        first.kill()
    assert first.returncode == 0, finished
    records = trial_records(root)
    assert _same(records[16], calm) and sorted(records) == [8, 16]
    log = root / "trials" / records[16].id / "logs" / "rank0.log"
    assert log.read_text().count("going on after") == 0 and records[16].stretches == ()
    assert len(_runs(root, records[16].id)) == 2, "one in each sweep"


def test_a_trial_whose_launch_is_killed_goes_on_in_another_sweep(
    storage_root: Path, calm: TrialRecord
) -> None:
    root = storage_root
    first = start(*OPTIONS, "--storage", root, "--num-cpus", "1", "--checkpoint-every", "25")
    other = None
    try:
        _wait(root, partial(_reached, root, 40), "a training under way")
        other = start(*OPTIONS, "--seeds", "0,1", "--storage", root, "--num-cpus", "1")
        _wait(root, lambda: list(root.glob("sweeps/*-*"))[1:], "another launch")
        _wait(root, partial(_reached, root, 100), "more updates")
        os.killpg(first.pid, signal.SIGKILL)
        first.communicate()
        output = finish(other, root)
    finally:
        for each in (first, other):
            if each is not None:
                each.kill()
    assert other.returncode == 0, output
    storage = Storage(root)
    record = storage.trial(calm.id)
    assert record is not None and _same(record, calm)
    assert record.stretches and record.stretches[-1].after >= 75


@contextmanager
def _ray(environment: dict[str, str], *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A node of a Ray, in a group of processes of its own."""
    command = ["ray", "start", "--block", "--disable-usage-stats", "--object-store-memory=134217728", *words]
    process = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def _nodes(environment: dict[str, str]) -> dict[str, float]:
    """The CPUs of each node that is up, by its id."""
    code = (
        "import ray; ray.init(logging_level='error'); "
        "print(*('node', *((n['NodeID'], n['Resources'].get('CPU', 0)) for n in ray.nodes() if n['Alive'])), sep='|')"
    )
    for _ in range(60):
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
        )
        lines = [line for line in done.stdout.splitlines() if line.startswith("node|")]
        if lines:
            found = re.findall(r"\('(\w+)', ([\d.]+)\)", lines[0])
            return {node: float(cpus) for node, cpus in found}
        time.sleep(1)
    raise AssertionError(done.stderr)


def test_a_node_that_is_drained_and_one_that_is_lost(
    storage_root: Path, calm: TrialRecord, tmp_path: Path
) -> None:
    root = storage_root
    port, dashboard = free_port(), free_port()
    address = f"127.0.0.1:{port}"
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "RAY_AUTH_MODE": "disabled",
        "RAY_ADDRESS": address,
        "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{dashboard}",
    }
    join = partial(_ray, environment, f"--address={address}", "--num-cpus=2")
    head = _ray(
        {**environment, "RAY_ADDRESS": ""},
        *("--head", f"--port={port}", f"--dashboard-port={dashboard}", "--num-cpus=0"),
    )
    with head, join():
        wait_for(lambda: len(_nodes(environment)) == 2, "two nodes", lambda: 0)
        told = (
            "--tracking-uri",
            f"sqlite:///{root}/mlflow.db",
            "--checkpoint-every",
            "40",
            "--use-gpu",
            "no",
        )
        process = start(*OPTIONS, *told, "--storage", root, **environment)
        try:
            _wait(root, partial(_reached, root, 40), "a training under way")
            (first,) = (node for node, cpus in _nodes(environment).items() if cpus)
            with join() as second:
                wait_for(lambda: len(_nodes(environment)) == 3, "another node", lambda: 0)
                _drain(environment, first)
                _wait(root, partial(_reached, root, 160, launches=2), "a training on the other node")
                with join():
                    wait_for(lambda: len(_nodes(environment)) >= 3, "a third node", lambda: 0)
                    os.killpg(second.pid, signal.SIGKILL)
                    output = finish(process, root)
        finally:
            process.kill()
    assert process.returncode == 0, output
    record = trial_records(root)[16]
    assert _same(record, calm)
    assert "a node is to go" in output and output.count("its training was cut off") == 2
    assert len(record.stretches) == 3 and not all_states(Storage(root), record.id)


def _drain(environment: dict[str, str], node: str) -> None:
    words = ["ray", "drain-node", "--address", environment["RAY_ADDRESS"], "--node-id", node]
    words += ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "a spot instance is taken back"]
    done = subprocess.run(
        [*words, "--deadline-remaining-seconds", "120"], env=environment, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
