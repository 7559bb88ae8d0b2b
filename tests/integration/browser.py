"""A headless Chromium that tests talk to over its own pipe, so that no driver has to be installed."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_SECONDS = 120.0


def chromium() -> str | None:
    """The path of a Chromium or Chrome, or None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


# Chromium reads commands from descriptor 3 and writes answers to descriptor 4.
_WITH_PIPE = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
for number, end in zip((3, 4), ends):
    os.dup2(end, number)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Browser:
    """One page of a fresh profile. `events` holds everything that the browser reported, as (method, parameters)."""

    def __init__(self, program: str, profile: Path) -> None:
        read_here, write_there = os.pipe()
        read_there, write_here = os.pipe()
        options = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--remote-debugging-pipe",
        ]
        command = [program, *options, f"--user-data-dir={profile}"]
        self._process = subprocess.Popen(
            [sys.executable, "-c", _WITH_PIPE, str(read_there), str(write_there), *command],
            pass_fds=(read_there, write_there),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(read_there)
        os.close(write_there)
        self._read, self._write = read_here, write_here
        self._waiting = b""
        self._last = 0
        self._session: str | None = None
        self.events: list[tuple[str, dict[str, Any]]] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.send(f"{domain}.enable")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._session = None
        self.send("Browser.close")
        self._process.wait(timeout=30)
        os.close(self._read)
        os.close(self._write)

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the DevTools protocol and its answer. Raises RuntimeError where the browser refuses it."""
        self._last += 1
        command: dict[str, Any] = {"id": self._last, "method": method, "params": parameters}
        if self._session:
            command["sessionId"] = self._session
        os.write(self._write, json.dumps(command).encode() + b"\0")
        while True:
            message = self._next()
            if message.get("id") == self._last:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return dict(message["result"])

    def open(self, path: Path, *, width: int, height: int = 900) -> None:
        """Load a local file at a width in CSS pixels and wait until it is there with its pictures."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.send("Emulation.setDeviceMetricsOverride", **metrics)
        seen = len(self.events)
        self.send("Page.navigate", url=path.as_uri())
        while not any(method == "Page.loadEventFired" for method, _ in self.events[seen:]):
            self._next()

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def found(self, method: str) -> list[dict[str, Any]]:
        """The parameters of all events of one kind so far."""
        return [parameters for name, parameters in self.events if name == method]

    def _next(self) -> dict[str, Any]:
        """The next message; events are kept. Raises TimeoutError when none comes for two minutes."""
        end = time.monotonic() + _SECONDS
        while b"\0" not in self._waiting:
            if not select.select([self._read], [], [], max(0.0, end - time.monotonic()))[0]:
                raise TimeoutError("the browser says nothing")
            part = os.read(self._read, 1 << 16)
            if not part:
                raise RuntimeError(f"the browser ended with status {self._process.wait(timeout=30)}")
            self._waiting += part
        line, _, self._waiting = self._waiting.partition(b"\0")
        message = dict(json.loads(line))
        if "id" not in message:
            self.events.append((message["method"], message.get("params", {})))
        return message
