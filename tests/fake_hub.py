"""A model hub on a free local port: the few calls that huggingface_hub makes to list and fetch a model's files.

GET       /api/models/{name}/revision/{revision}     the commit and the files, with sizes and hashes
HEAD, GET /{name}/resolve/{revision}/{file}          a file, or a range of it
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


@dataclass
class Repo:
    """One model: the files of a folder, as one commit of its main branch."""

    folder: Path
    commit: str = "a" * 40
    is_gated: bool = False
    extra: dict[str, bytes] = field(default_factory=dict)

    def content(self, name: str) -> bytes | None:
        if name in self.extra:
            return self.extra[name]
        path = self.folder / name
        return path.read_bytes() if path.is_file() else None

    def names(self) -> list[str]:
        return sorted([path.name for path in self.folder.iterdir()] + list(self.extra))


class FakeHub:
    """`cut_at`: the next download of weights breaks off after so many bytes; `stalls_at`: it stops
    there and keeps the connection, until the hub is stopped. `status`: what every call is answered with."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.cut_at: int | None = None
        self.stalls_at: int | None = None
        self.is_stalled = threading.Event()
        self.status: int | None = None
        self.requests: list[str] = []
        self.ranges: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                hub._serve(self, with_body=True)

            def do_HEAD(self) -> None:
                hub._serve(self, with_body=False)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self._is_over = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"

    @contextmanager
    def running(self) -> Iterator[FakeHub]:
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.stop()
            thread.join()

    def stop(self) -> None:
        """Refuses connections from now on. Idempotent."""
        self._is_over.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def fetched(self) -> list[str]:
        """The files that were sent, in order."""
        return [line.rpartition("/")[2] for line in self.requests if line.startswith("GET") and "/resolve/" in line]

    def _serve(self, request: BaseHTTPRequestHandler, *, with_body: bool) -> None:
        path = unquote(urlsplit(request.path).path)
        self.requests.append(f"{request.command} {path}")
        if self.status is not None:
            _answer(request, self.status, {"X-Error-Message": "out of order"})
        elif found := re.fullmatch(r"/api/models/(.+)/revision/(.+)", path):
            self._describe(request, *found.groups())
        elif found := re.fullmatch(r"/(.+)/resolve/([^/]+)/(.+)", path):
            self._send(request, *found.groups(), with_body=with_body)
        else:
            _answer(request, 404)

    def _describe(self, request: BaseHTTPRequestHandler, name: str, revision: str) -> None:
        repo = self._repo(request, name, revision)
        if repo is None:
            return
        siblings = []
        for file in repo.names():
            content = repo.content(file) or b""
            sibling: dict[str, object] = {"rfilename": file, "size": len(content), "blobId": hashlib.sha1(content).hexdigest()}  # noqa: S324
            if file.endswith(".safetensors"):
                sibling["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
            siblings.append(sibling)
        body = json.dumps({"id": name, "modelId": name, "sha": repo.commit, "siblings": siblings, "tags": [], "private": False})
        _answer(request, 200, {"Content-Type": "application/json"}, body.encode())

    def _send(self, request: BaseHTTPRequestHandler, name: str, revision: str, file: str, *, with_body: bool) -> None:
        repo = self._repo(request, name, revision)
        if repo is None:
            return
        if repo.is_gated:
            _answer(request, 403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "restricted"})
            return
        content = repo.content(file)
        if content is None:
            _answer(request, 404, {"X-Error-Code": "EntryNotFound"})
            return
        is_lfs = file.endswith(".safetensors")
        digest = hashlib.sha256(content).hexdigest() if is_lfs else hashlib.sha1(content).hexdigest()  # noqa: S324
        headers = {"ETag": f'"{digest}"', "X-Repo-Commit": repo.commit, "Accept-Ranges": "bytes"}
        start, status = 0, 200
        if wanted := re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", "")):
            start, status = int(wanted[1]), 206
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self.ranges.append(wanted[0])
        body = content[start:]
        if with_body and is_lfs and self.cut_at is not None:
            headers["Content-Length"] = str(len(body))
            body, self.cut_at = body[: self.cut_at], None
        headers.setdefault("Content-Length", str(len(body)))
        if with_body and is_lfs and self.stalls_at is not None:
            body = body[: self.stalls_at]
        _answer(request, status, headers, body if with_body else b"")
        if with_body and is_lfs and self.stalls_at is not None:
            self.is_stalled.set()
            self._is_over.wait(60)

    def _repo(self, request: BaseHTTPRequestHandler, name: str, revision: str) -> Repo | None:
        """None: has been answered."""
        repo = self.repos.get(name)
        if repo is None:
            _answer(request, 401, {"X-Error-Code": "RepoNotFound"})
        elif revision not in ("main", repo.commit):
            _answer(request, 404, {"X-Error-Code": "RevisionNotFound"})
            repo = None
        return repo


def _answer(request: BaseHTTPRequestHandler, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
    request.send_response(status)
    for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
        request.send_header(key, value)
    request.end_headers()
    request.wfile.write(body)
