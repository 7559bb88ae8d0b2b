"""Worker processes of a Ray on this machine, forked from one process that has imported what they need.

A sweep starts a dozen of Ray's worker processes, and each would import Ray Train, torch or both, for two to six seconds of a
core. Here one process imports them, while Ray itself starts, and every worker is a fork of it: it imports
nothing of that again, and what was imported is in memory once. Raylet starts a worker as ever, by a command; the command
is `forked_worker.py`, which hands it on to here and stays until the worker ends.

For CPUs only: a process that has looked for GPUs cannot be forked.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from rayfit.allocator import ONE_ARENA

SOCKET = "RAYFIT_FORK_SERVER"
FORKED = b"forked\n"
_WORKER = Path(__file__).with_name("forked_worker.py")
_LONGEST_REQUEST = 1 << 20
_CLOSING_SECONDS = 1.0

# Nothing that starts threads of its own when it is imported (polars does): a fork has only the thread that forked.
_IMPORTED = (
    "torch",
    "numba",
    "rayfit.train.lean_deepspeed",
    "transformers.integrations",
    "transformers.models.auto.modeling_auto",
    "transformers.models.llama.modeling_llama",
)
# Ray keeps what the environment says of the raylet and of the job from when it is imported, so that must be known.
_OF_RAY = ("RAY_RAYLET_PID", "RAY_JOB_ID")
_IMPORTED_THEN = (
    "ray.train.v2.api.data_parallel_trainer",
    "ray.train.v2._internal.execution.controller",
    "ray.tune",
)


class ForkServer:
    """The process, from the driver's side: it lives until `close`, or until this process has ended."""

    def __init__(self, log: TextIO) -> None:
        """Start it; it imports meanwhile. What it says of errors goes to `log`."""
        # Of this user alone, for whoever may connect may run anything. The server removes it, however this process ends.
        self.socket = f"{tempfile.mkdtemp(prefix='rayfit-')}/socket"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.socket)
        listener.listen(64)
        # It reads from this pipe, whose only other end is here: that ends, however this process does.
        lives, self._lives = os.pipe()
        passed = (listener.fileno(), lives)
        begin = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import main; main{(*passed, self.socket)}"
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        self._process = subprocess.Popen(
            [sys.executable, *subprocess._args_from_interpreter_flags(), "-c", begin],  # type: ignore[attr-defined]
            env={**os.environ, **threads, **ONE_ARENA, "DS_ACCELERATOR": "cpu"},
            pass_fds=passed,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is the driver's
        )
        listener.close()
        os.close(lives)
        os.environ[SOCKET] = self.socket

    @property
    def worker_path(self) -> str:
        """What raylet is told to start in place of Ray's own script of a worker."""
        return str(_WORKER)

    def prepare(self, raylet_pid: int, job_id: str) -> None:
        """Let it import Ray too, now that the raylet is there and the driver has a job."""
        environment = dict(zip(_OF_RAY, (str(raylet_pid), job_id), strict=True))
        # Where the server has failed, its log says why, and workers are started without it.
        with socket.socket(socket.AF_UNIX) as connection, suppress(OSError):
            connection.connect(self.socket)
            connection.sendall(json.dumps({"environment": environment}).encode() + b"\n")

    def close(self) -> None:
        """End it, and the workers that it still has."""
        os.environ.pop(SOCKET, None)
        os.close(self._lives)
        try:
            self._process.wait(_CLOSING_SECONDS)
        except subprocess.TimeoutExpired:  # it still imports
            self._process.kill()
            self._process.wait()
            shutil.rmtree(Path(self.socket).parent, ignore_errors=True)


@dataclass
class _Request:
    """A worker that is asked for: its command, its environment, its folder, and its standard files.

    Without a command, none is: Ray is to be imported in this environment.
    """

    environment: dict[str, str]
    argv: list[str] = field(default_factory=list)
    folder: str = ""
    files: list[int] = field(default_factory=list)


@dataclass
class _Server:
    listener: socket.socket
    lives: int
    # By the worker's process: the connection of whoever waits for its end.
    workers: dict[int, socket.socket] = field(default_factory=dict)
    of_ray: dict[str, str] = field(default_factory=dict)
    may_fork: bool = True

    def serve(self) -> _Request | None:
        """Fork for each request. Returns in a fork, with its request, and in the server when the driver has ended."""
        ended, wakes = socket.socketpair()
        for end in (ended, wakes):
            end.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wakes.fileno())
        with selectors.DefaultSelector() as selector:
            for each in (self.listener, self.lives, ended):
                selector.register(each, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj is ended:
                        ended.recv(4096)
                        self._reap(selector)
                    elif key.fileobj is self.listener:
                        connection, _ = self.listener.accept()
                        request = self._answer(connection)
                        if request is not None:
                            ended.close()
                            wakes.close()
                            return request
                        if connection.fileno() >= 0:
                            selector.register(connection, selectors.EVENT_READ)
                    elif key.fileobj == self.lives:
                        self._kill(list(self.workers))
                        return None
                    else:  # whoever waited for it was ended: by raylet, which wants the worker ended
                        self._kill([pid for pid, each in self.workers.items() if each is key.fileobj])
                        selector.unregister(key.fileobj)

    def _answer(self, connection: socket.socket) -> _Request | None:
        """Do what is asked, and close the connection unless it is to wait for a worker. Returns in a fork its request."""
        request = _receive(connection)
        forks = request is not None and self._imports_ray(request.environment) and bool(request.argv)
        pid = os.fork() if forks else None
        if pid == 0:
            self._leave(connection)
            return request
        if pid is None:
            connection.close()  # who asked for a worker sees no answer, and becomes it
        else:
            self.workers[pid] = connection
            _tell(connection, FORKED)
        for file in () if request is None else request.files:
            os.close(file)
        return None

    def _leave(self, connection: socket.socket) -> None:
        """In a fork: what is the server's is not its own."""
        os.setpgrp()  # raylet ends a worker by its process group
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self.listener.close()
        os.close(self.lives)
        for each in (connection, *self.workers.values()):
            each.close()

    def _imports_ray(self, environment: dict[str, str]) -> bool:
        """Import Ray in this environment, if it has not been. False where it was in another, or its forks are alike."""
        of_ray = {name: environment.get(name, "") for name in _OF_RAY}
        if not self.of_ray:
            self.of_ray = of_ray
            os.environ.update(of_ray)
            _import_ray()
            self.may_fork = _forked_id() != _forked_id()
            gc.freeze()  # collecting garbage would copy, in every fork, the pages of all that is imported
        return self.may_fork and self.of_ray == of_ray

    def _reap(self, selector: selectors.BaseSelector) -> None:
        while self.workers:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            connection = self.workers.pop(pid, None)
            if connection is None:  # a fork that drew an id
                continue
            if connection in selector.get_map():
                selector.unregister(connection)
                _tell(connection, str(os.waitstatus_to_exitcode(status)).encode())
            connection.close()

    @staticmethod
    def _kill(pids: list[int]) -> None:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)


def _import_ray() -> None:
    """Import Ray and its libraries, and draw none of its random ids.

    Forks inherit the generator once it has been seeded, which drawing the first id does, and give the same ids to different
    things. Declaring an actor draws one, which is drawn elsewhere here.
    """
    actors: Any = importlib.import_module("ray.actor")
    usual = actors.ActorClassID
    actors.ActorClassID = _DrawnElsewhere(usual)
    for module in _IMPORTED_THEN:
        importlib.import_module(module)
    actors.ActorClassID = usual


@dataclass(frozen=True)
class _DrawnElsewhere:
    usual: Any

    def from_random(self) -> Any:
        """As Ray's."""
        return self.usual(os.urandom(self.usual.size()))


def _forked_id() -> bytes:
    """The first random id of Ray's that a fork draws."""
    read, write = os.pipe()
    if not os.fork():
        os.write(write, importlib.import_module("ray").UniqueID.from_random().binary())
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as stream:
        return stream.read()


def _receive(connection: socket.socket) -> _Request | None:
    """What `forked_worker.py` sent; None when it has ended before it had."""
    files: list[int] = []
    with suppress(OSError):
        text, files, *_ = socket.recv_fds(connection, _LONGEST_REQUEST, 3)
        while text and not text.endswith(b"\n"):
            more = connection.recv(_LONGEST_REQUEST)
            text = text + more if more else b""
        if text:
            return _Request(**json.loads(text), files=list(files))
    for file in files:
        os.close(file)
    return None


def _tell(connection: socket.socket, word: bytes) -> None:
    """Say it to whoever waits, if it has not been ended."""
    with suppress(OSError):
        connection.sendall(word)


def main(listener: int, lives: int, path: str) -> None:
    """The server's process, then each fork's. `listener`, `lives`: its files; `path`: of the socket."""
    request = None
    try:
        for module in _IMPORTED:
            importlib.import_module(module)
        request = _Server(socket.socket(fileno=listener), lives).serve()
    finally:
        if request is None:
            shutil.rmtree(Path(path).parent, ignore_errors=True)
    if request is not None:
        _become(request)


def _become(request: _Request) -> None:
    """Run the worker's script in this process as if it had been started with it."""
    import runpy

    for number, file in enumerate(request.files):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(request.environment)
    os.chdir(request.folder)
    # What else the environment says is kept from when Ray was imported, too, but can be read again.
    importlib.import_module("ray._raylet").Config.initialize("")
    sys.argv[:] = request.argv
    sys.path[0] = str(Path(request.argv[0]).parent)
    runpy.run_path(request.argv[0], run_name="__main__")
