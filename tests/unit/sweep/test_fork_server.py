"""When the server refuses to fork: what asked for a worker then becomes it."""

from __future__ import annotations

import gc
import os
import socket

import pytest

import rayfit.sweep.fork_server as module
from rayfit.sweep.fork_server import _Server

JOB = {"RAY_RAYLET_PID": "1", "RAY_JOB_ID": "01000000"}


@pytest.mark.parametrize("ids", ["alike", "different"])
def test_forks_that_would_draw_the_same_ids_are_not_made(monkeypatch: pytest.MonkeyPatch, ids: str) -> None:
    monkeypatch.setattr(os, "environ", {})
    monkeypatch.setattr(gc, "freeze", lambda: None)
    monkeypatch.setattr(module, "_import_ray", lambda: None)
    monkeypatch.setattr(module, "_forked_id", lambda: b"one" if ids == "alike" else os.urandom(4))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        server = _Server(ours, lives=-1)
        assert server._imports_ray(JOB) is (ids == "different")
        assert server._imports_ray(JOB) is (ids == "different"), "it is not tried again"
        assert not server._imports_ray({**JOB, "RAY_JOB_ID": "02000000"})
