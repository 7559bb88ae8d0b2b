"""The process that workers are forked from, with scripts in the place of Ray's own: what a fork is, and how it ends."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rayfit.sweep.fork_server import FORKED, SOCKET, ForkServer
from tests.conftest import ROOT
from tests.patience import wait_for

JOB = {"RAY_RAYLET_PID": "1", "RAY_JOB_ID": "01000000"}
TELLS = """
import json, os, sys, threading
loaded = [name for name in ("torch", "deepspeed", "ray.train", "ray.tune", "polars") if name in sys.modules]
import ray
told = {
    "id": ray.UniqueID.from_random().hex(),
    "pid": os.getpid(), "group": os.getpgid(0), "loaded": loaded, "arguments": sys.argv[1:], "folder": os.getcwd(),
    "environment": dict(os.environ), "threads": threading.active_count(), "path": sys.path[0], "name": __name__,
}
print(json.dumps(told), flush=True)
"""
WAITS = "import os, time; print(os.getpid(), flush=True); time.sleep(1000)"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    log = tmp_path_factory.mktemp("log") / "log"
    with log.open("w") as stream:
        server = ForkServer(stream)
        server.prepare(1, JOB["RAY_JOB_ID"])
        yield server
        server.close()
    assert not log.read_text()


class Asked:
    """A worker that is asked for as `forked_worker.py` does."""

    def __init__(self, server: ForkServer, script: Path, *arguments: str, **environment: str) -> None:
        read, write = os.pipe()
        self.connection = socket.socket(socket.AF_UNIX)
        self.connection.connect(server.socket)
        told = {
            "argv": [str(script), *arguments],
            "environment": {**JOB, **environment},
            "folder": str(script.parent),
        }
        socket.send_fds(self.connection, [json.dumps(told).encode() + b"\n"], [read, write, write])
        os.close(write)
        self._output = os.fdopen(read)
        self.answer = self.connection.recv(len(FORKED))

    def says(self) -> str:
        """The next line that it prints."""
        return self._output.readline()

    def status(self) -> bytes:
        """How it ended, once it has."""
        status = self.connection.recv(16)
        self.close()
        return status

    def close(self) -> None:
        """Wait for it no longer."""
        self._output.close()
        self.connection.close()


def script(folder: Path, text: str) -> Path:
    path = folder / "worker.py"
    path.write_text(text)
    return path


def is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_fork_is_as_if_it_had_been_started(server: ForkServer, tmp_path: Path) -> None:
    asked = Asked(server, script(tmp_path, TELLS), "--one", "two", OWN="value")
    assert asked.answer == FORKED
    told = json.loads(asked.says())
    assert asked.status() == b"0"
    assert told["loaded"] == ["torch", "deepspeed", "ray.train", "ray.tune"]
    assert told["arguments"] == ["--one", "two"] and told["name"] == "__main__"
    assert told["folder"] == told["path"] == str(tmp_path)
    assert told["environment"] == {**JOB, "OWN": "value"}
    assert told["threads"] == 1
    assert told["group"] == told["pid"], "raylet ends a worker with its group"
    another = Asked(server, tmp_path / "worker.py")
    assert json.loads(another.says())["id"] != told["id"], "placement groups with one id are one"
    assert another.status() == b"0"


def test_its_exit_status_is_told(server: ForkServer, tmp_path: Path) -> None:
    assert Asked(server, script(tmp_path, "import sys; sys.exit(3)")).status() == b"3"
    assert Asked(server, script(tmp_path, "import os, signal; os.kill(os.getpid(), 9)")).status() == b"-9"


def test_a_worker_of_another_job_is_not_forked(server: ForkServer, tmp_path: Path) -> None:
    """Ray has been imported for one."""
    asked = Asked(server, script(tmp_path, TELLS), RAY_JOB_ID="02000000")
    assert asked.answer == b""
    asked.close()


def test_it_ends_with_whoever_was_started_in_its_place(server: ForkServer, tmp_path: Path) -> None:
    asked = Asked(server, script(tmp_path, WAITS))
    pid = int(asked.says())
    assert is_there(pid)
    asked.close()
    wait_for(lambda: not is_there(pid), "the worker's end", lambda: None)


def test_where_no_server_is_the_worker_is_started_itself(tmp_path: Path) -> None:
    """Ray's own script then says which arguments it lacks."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "rayfit" / "sweep" / "forked_worker.py"), "--none"],
        env={**os.environ, SOCKET: str(tmp_path / "none")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "default_worker.py: error: the following arguments are required" in done.stderr


def test_it_is_closed_while_it_imports(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as log:
        server = ForkServer(log)
        server.close()
    assert not Path(server.socket).parent.exists() and not (tmp_path / "log").read_text()


def test_workers_end_with_the_driver(tmp_path: Path) -> None:
    """However it ends: here it is killed."""
    waits = script(tmp_path, WAITS)
    driver = f"""
import json, os, sys, time
from pathlib import Path
from rayfit.sweep.fork_server import ForkServer
from tests.integration.test_fork_server import Asked
server = ForkServer(sys.stderr)
asked = Asked(server, Path({str(waits)!r}))
print(os.path.dirname(server.socket), server._process.pid, asked.says(), flush=True)
time.sleep(1000)
"""
    with subprocess.Popen(
        [sys.executable, "-c", driver], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        folder, *words = process.stdout.readline().split()
        pids = [int(word) for word in words]
        assert len(pids) == 2 and all(map(is_there, pids))
        process.kill()
    wait_for(lambda: not any(map(is_there, pids)), "their end", lambda: None)
    assert not Path(folder).exists()
