"""A server on this machine that speaks as much of the hub's protocol as loading a dataset or a model takes."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit


@dataclass(frozen=True, kw_only=True)
class Repo:
    """A model or dataset, one commit of it, as the files of a folder.

    `revisions`: what leads to the commit beside its own name. The files of a gated one go to whoever has a token.
    """

    hub_id: str
    commit: str
    folder: Path
    kind: str = "model"
    gated: bool = False
    revisions: tuple[str, ...] = ("main",)

    @property
    def api(self) -> str:
        return f"/api/{self.kind}s/{self.hub_id}"

    @property
    def resolve(self) -> str:
        return f"/{'datasets/' if self.kind == 'dataset' else ''}{self.hub_id}/resolve/{self.commit}/"

    def files(self) -> dict[str, Path]:
        return {
            file.relative_to(self.folder).as_posix(): file
            for file in sorted(self.folder.rglob("*"))
            if file.is_file()
        }


class HubServer(ThreadingHTTPServer):
    """Serves repositories from folders; `sent` counts the bytes that went out of each file, by `hub id/name`."""

    def __init__(self, *repos: Repo) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repos = repos
        self.sent: Counter[str] = Counter()

    @property
    def sent_bytes(self) -> int:
        return self.sent.total()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients hang up when they have read enough."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


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
        repo = self._repo(unquote(urlsplit(self.path).path))
        assert repo is not None
        self._json([self._entry(repo, path) for path in wanted if (repo.folder / path).exists()])

    def _repo(self, path: str) -> Repo | None:
        return next(
            (each for each in self.server.repos if f"{path}/".startswith((f"{each.api}/", each.resolve))),
            None,
        )

    def _answer(self, path: str, *, body: bool) -> None:
        repo = self._repo(path)
        if repo is None:
            self._refuse(404, "RepoNotFound")
            return
        api, files = repo.api, repo.resolve
        revisions = [f"{api}/revision/{revision}" for revision in (*repo.revisions, repo.commit)]
        if path == f"{api}/auth-check":
            self._refuse(403, "GatedRepo") if self._is_closed(repo) else self._json({})
        elif path == api or path in revisions:
            siblings = [{"rfilename": name} for name in repo.files()]
            gated = "auto" if repo.gated else False
            about = {"id": repo.hub_id, "sha": repo.commit, "siblings": siblings, "gated": gated}
            self._json({**about, "private": False, "disabled": False, "tags": [], "downloads": 0, "likes": 0})
        elif path.startswith(f"{api}/revision/"):
            self._refuse(404, "RevisionNotFound")
        elif path.startswith(f"{api}/tree/{repo.commit}"):
            self._tree(repo, path.removeprefix(f"{api}/tree/{repo.commit}").strip("/"))
        elif path.startswith(files):
            self._file(repo, path.removeprefix(files), body=body)
        else:
            self._refuse(404, "EntryNotFound")

    def _is_closed(self, repo: Repo) -> bool:
        return repo.gated and "Authorization" not in self.headers

    def _entry(self, repo: Repo, path: str) -> dict[str, Any]:
        place = repo.folder / path
        if place.is_dir():
            return {"type": "directory", "path": path, "oid": "0" * 40}
        return {"type": "file", "path": path, "size": place.stat().st_size, "oid": f"{len(path):040x}"}

    def _tree(self, repo: Repo, below: str) -> None:
        top = repo.folder / below
        if not top.is_dir():
            self._refuse(404, "EntryNotFound")
            return
        found = top.rglob("*") if "recursive=true" in self.path.lower() else top.iterdir()
        self._json([self._entry(repo, path.relative_to(repo.folder).as_posix()) for path in sorted(found)])

    def _file(self, repo: Repo, name: str, *, body: bool) -> None:
        if self._is_closed(repo):
            self._refuse(403, "GatedRepo")
            return
        file = repo.files().get(name)
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
            "ETag": f'"{hashlib.sha1(f"{repo.hub_id}/{name}".encode()).hexdigest()}"',
            "X-Repo-Commit": repo.commit,
            "Accept-Ranges": "bytes",
            **extra,
        }
        self._send(status, content if body else b"", headers, length=len(content))
        self.server.sent[f"{repo.hub_id}/{name}"] += len(content) if body else 0

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
