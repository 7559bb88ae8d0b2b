"""A server on this machine that speaks as much of the hub's protocol as loading a dataset or a model takes."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit


class HubServer(ThreadingHTTPServer):
    """Serves one dataset or model from a folder; `sent_bytes` counts what went out of its files."""

    def __init__(
        self, hub_id: str, commit: str, folder: Path, *, kind: str = "dataset", gated: bool = False
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.api = f"/api/{kind}s/{hub_id}"
        self.resolve = f"/{'datasets/' if kind == 'dataset' else ''}{hub_id}/resolve/{commit}/"
        self.hub_id, self.commit, self.folder, self.gated = hub_id, commit, folder, gated
        self.sent_bytes = 0

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients hang up when they have read enough."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def files(self) -> dict[str, Path]:
        return {
            file.relative_to(self.folder).as_posix(): file
            for file in sorted(self.folder.rglob("*"))
            if file.is_file()
        }


class _Handler(BaseHTTPRequestHandler):
    server: HubServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(unquote(urlsplit(self.path).path), body=True)

    def do_HEAD(self) -> None:
        self._answer(unquote(urlsplit(self.path).path), body=False)

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        wanted = [
            unquote(part.removeprefix("paths=")) for part in sent.split("&") if part.startswith("paths=")
        ]
        if sent.startswith("{"):
            wanted = json.loads(sent)["paths"]
        self._json([self._entry(path) for path in wanted if self._exists(path)])

    def _answer(self, path: str, *, body: bool) -> None:
        hub = self.server
        api, files = hub.api, hub.resolve
        if path == f"{api}/auth-check":
            self._refuse(403, "GatedRepo") if hub.gated else self._json({})
        elif path in (api, f"{api}/revision/main", f"{api}/revision/{hub.commit}"):
            siblings = [{"rfilename": name} for name in hub.files()]
            gated = "auto" if hub.gated else False
            about = {"id": hub.hub_id, "sha": hub.commit, "siblings": siblings, "gated": gated}
            self._json({**about, "private": False, "disabled": False, "tags": [], "downloads": 0, "likes": 0})
        elif path.startswith(f"{api}/revision/"):
            self._refuse(404, "RevisionNotFound")
        elif path.startswith(f"{api}/tree/{hub.commit}"):
            self._tree(path.removeprefix(f"{api}/tree/{hub.commit}").strip("/"))
        elif path.startswith(files):
            self._file(path.removeprefix(files), body=body)
        elif path.startswith(api):
            self._refuse(404, "EntryNotFound")
        else:
            self._refuse(404, "RepoNotFound")

    def _exists(self, path: str) -> bool:
        return (self.server.folder / path).exists()

    def _entry(self, path: str) -> dict[str, Any]:
        place = self.server.folder / path
        if place.is_dir():
            return {"type": "directory", "path": path, "oid": "0" * 40}
        return {"type": "file", "path": path, "size": place.stat().st_size, "oid": f"{len(path):040x}"}

    def _tree(self, below: str) -> None:
        top = self.server.folder / below
        if not top.is_dir():
            self._refuse(404, "EntryNotFound")
            return
        found = top.rglob("*") if "recursive=true" in self.path.lower() else top.iterdir()
        self._json([self._entry(path.relative_to(self.server.folder).as_posix()) for path in sorted(found)])

    def _file(self, name: str, *, body: bool) -> None:
        if self.server.gated:
            self._refuse(403, "GatedRepo")
            return
        file = self.server.files().get(name)
        if file is None:
            self._refuse(404, "EntryNotFound")
            return
        content, status, extra = file.read_bytes(), 200, {}
        size = len(content)
        if (span := self.headers.get("Range")) is not None:
            first, _, last = span.removeprefix("bytes=").partition("-")
            start, end = int(first), min(int(last or size - 1), size - 1)
            content, status = content[start : end + 1], 206
            extra = {"Content-Range": f"bytes {start}-{end}/{size}"}
        headers = {
            "ETag": f'"{name}"',
            "X-Repo-Commit": self.server.commit,
            "Accept-Ranges": "bytes",
            **extra,
        }
        self._send(status, content if body else b"", headers, length=len(content))
        self.server.sent_bytes += len(content) if body else 0

    def _json(self, content: Any) -> None:
        self._send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _refuse(self, status: int, code: str) -> None:
        self._send(status, b"{}", {"X-Error-Code": code, "X-Error-Message": code})

    def _send(self, status: int, content: bytes, headers: dict[str, str], length: int | None = None) -> None:
        self.send_response(status)
        for name, value in {
            **headers,
            "Content-Length": str(len(content) if length is None else length),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - the name in the base class
        pass


@contextmanager
def serving(server: HubServer) -> Iterator[HubServer]:
    """The server runs within the block."""
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
