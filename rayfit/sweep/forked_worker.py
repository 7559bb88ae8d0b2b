"""Stands for a worker of Ray's where raylet started it, while the worker itself is a fork of `fork_server.py`.

Raylet runs this file as a script, with the arguments of Ray's own `default_worker.py`. It imports nothing that takes time.
"""

import sys

if __name__ == "__main__":
    del sys.path[0]  # this folder, where modules have names of the standard library's

import os
import socket


def main() -> int:
    """Hand it on, wait, and end as the worker did; where there is no server any more, be the worker."""
    import importlib.util
    import json

    found = importlib.util.find_spec("ray")
    assert found is not None and found.origin is not None
    worker = os.path.join(os.path.dirname(found.origin), "_private", "workers", "default_worker.py")
    argv = [worker, *sys.argv[1:]]
    with socket.socket(socket.AF_UNIX) as connection:
        told = {"argv": argv, "environment": dict(os.environ), "folder": os.getcwd()}
        text = json.dumps(told).encode() + b"\n"
        try:
            connection.connect(os.environ["RAYFIT_FORK_SERVER"])
            sent = socket.send_fds(connection, [text], [0, 1, 2])
            connection.sendall(text[sent:])
            answer = connection.recv(7)
        except OSError:
            answer = b""
        if answer != b"forked\n":
            os.execv(sys.executable, [sys.executable, *argv])
        status = connection.recv(16)
    # Killed by a signal, or the server was: neither is an end that was meant.
    return int(status) if status.isdigit() else 1


if __name__ == "__main__":
    sys.exit(main())
