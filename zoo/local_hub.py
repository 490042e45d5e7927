"""A hub on 127.0.0.1 that can be told to misbehave: for the kill script and the tests of the manager.

It answers the two questions of the hub's API that the zoo asks (which files has this repository at this revision, and
what is in this one), serves any other file by its path, and does to each path what its `Behaviour` says.
"""

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

_BLOCK_BYTES = 1 << 14


@dataclass(frozen=True)
class Behaviour:
    """What happens to requests for one path."""

    ranges: bool = True
    """Honour Range; else send everything with 200."""
    validator: bool = True
    """Send an ETag, and honour If-Range."""
    length: bool = True
    """Send Content-Length; else close the connection at the end."""
    statuses: tuple[int, ...] = ()
    """Answer the first requests with these instead (429 with Retry-After: 1)."""
    cut_bytes: int = 0
    """Close the connection after this many bytes of each answer; 0: never."""
    cuts: int = 1_000_000
    """How many answers are cut."""
    redirect: str = ""
    """Answer 302 to this address."""
    stall_s: float = 0.0
    """Wait this long in the middle of an answer that starts at the first byte."""
    wait_s: float = 0.0
    """Wait this long before answering."""
    block_pause_s: float = 0.0
    """Wait this long after each block of 16 KiB."""
    headers: tuple[tuple[str, str], ...] = ()
    """Sent with each answer."""


@dataclass
class Repository:
    """One model on the hub: its files at each commit, and what its branches and tags point at."""

    commits: dict[str, dict[str, bytes]]
    branches: dict[str, str]
    private: bool = False


@dataclass
class LocalHub:
    """Its state; change it while it serves."""

    files: dict[str, bytes] = field(default_factory=dict)
    """Path (`/x.tar.gz`) -> content."""
    repositories: dict[str, Repository] = field(default_factory=dict)
    behaviours: dict[str, Behaviour] = field(default_factory=dict)
    """Path -> Behaviour."""
    default: Behaviour = Behaviour()
    """Of all other paths."""
    large_bytes: int = 10_000
    """Files of a repository from this size on are announced with sha256 and served by way of a redirect, like the
    hub's large files; smaller ones with their git blob id."""
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    """What was asked so far: method, path, Range header."""
    url: str = ""

    def add(self, repository: str, files: dict[str, bytes], branch: str = "main") -> str:
        """A new commit of a repository, to which the branch then points. Returns the commit."""
        content = b"".join(name.encode() + data for name, data in sorted(files.items()))
        commit = hashlib.sha1(content, usedforsecurity=False).hexdigest()
        known = self.repositories.setdefault(repository, Repository({}, {}))
        known.commits[commit] = files
        known.branches[branch] = commit
        return commit

    def asked(self, path: str) -> list[str]:
        """Range headers of the requests for a path so far ("" where there was none)."""
        return [ranges for _, asked, ranges in self.requests if asked == path]

    @contextmanager
    def serving(self) -> Iterator["LocalHub"]:
        """Serve in threads of this process while the block runs."""
        server = self.server()
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def server(self) -> ThreadingHTTPServer:
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        return server


class _Handler(BaseHTTPRequestHandler):
    hub: LocalHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_) -> None:
        pass

    def handle(self) -> None:
        try:
            super().handle()
        except (ConnectionError, TimeoutError):
            pass  # a client that was killed

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        try:
            self._answer()
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def _answer(self) -> None:
        path = unquote(self.path.partition("?")[0])
        self.hub.requests.append((self.command, path, self.headers.get("Range", "")))
        behaviour = self.hub.behaviours.get(path, self.hub.default)
        if behaviour.statuses:
            self.hub.behaviours[path] = replace(behaviour, statuses=behaviour.statuses[1:])
            headers = {"Retry-After": "1"} if behaviour.statuses[0] == 429 else {}
            return self._plain(behaviour.statuses[0], b"no", headers)
        time.sleep(behaviour.wait_s)
        if behaviour.redirect:
            return self._redirect(behaviour.redirect)
        if path.startswith("/api/models/"):
            return self._information(path.removeprefix("/api/models/"))
        content = self.hub.files.get(path)
        if content is None and "/resolve/" in path:
            content = self._resolved(path)
            if content is not None and self.command == "HEAD":
                return self._head(path, content)
            if content is not None and len(content) >= self.hub.large_bytes:
                address = f"/cdn/{hashlib.sha256(content).hexdigest()}"
                self.hub.files[address] = content
                return self._redirect(address)
        if content is None:
            return self._plain(404, b"not found", {"X-Error-Code": "EntryNotFound"})
        return self._body(path, content, behaviour)

    def _resolved(self, path: str) -> bytes | None:
        repository, _, rest = path.lstrip("/").partition("/resolve/")
        commit, _, name = rest.partition("/")
        known = self.hub.repositories.get(repository)
        return known.commits.get(commit, {}).get(name) if known else None

    def _information(self, path: str) -> None:
        path, tree, revision = path.partition("/tree/")
        repository, _, wanted = path.partition("/revision/")
        revision = revision or wanted
        known = self.hub.repositories.get(repository)
        if known is None:
            return self._plain(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        if known.private:
            return self._plain(403, b"{}", {"X-Error-Code": "GatedRepo"})
        commit = known.branches.get(revision or "main", revision)
        if commit not in known.commits:
            return self._plain(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        siblings = []
        for name, data in known.commits[commit].items():
            blob = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
            sibling: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": blob}
            if len(data) >= self.hub.large_bytes:
                sha256 = hashlib.sha256(data).hexdigest()
                sibling["lfs"] = {"sha256": sha256, "size": len(data), "pointerSize": 134}
            siblings.append(sibling)
        if tree:
            listed = [
                {"type": "file", "path": s["rfilename"], "size": s["size"], "oid": s["blobId"]}
                | ({"lfs": s["lfs"] | {"oid": s["lfs"]["sha256"]}} if "lfs" in s else {})
                for s in siblings
            ]
            return self._plain(200, json.dumps(listed).encode())
        answer = {"_id": "0", "id": repository, "modelId": repository, "sha": commit, "private": False, "tags": []}
        self._plain(200, json.dumps(answer | {"downloads": 0, "siblings": siblings}).encode())

    def _plain(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _head(self, path: str, content: bytes) -> None:
        """What the hub's own client wants to know before it downloads."""
        self.send_response(200)
        self.send_header("X-Repo-Commit", path.partition("/resolve/")[2].partition("/")[0])
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()

    def _redirect(self, address: str) -> None:
        self.send_response(302)
        self.send_header("Location", address)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _body(self, path: str, content: bytes, behaviour: Behaviour) -> None:
        etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
        start = self._start(content, etag, behaviour)
        if start is None:
            self.send_response(416)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if behaviour.validator:
            self.send_header("ETag", etag)
        if behaviour.length:
            self.send_header("Content-Length", str(len(content) - start))
        else:
            self.send_header("Connection", "close")
            self.close_connection = True
        for name, value in behaviour.headers:
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        body = memoryview(content)[start:]
        if behaviour.cut_bytes and behaviour.cuts > 0 and behaviour.cut_bytes < len(body):
            self.hub.behaviours[path] = replace(behaviour, cuts=behaviour.cuts - 1)
            body = body[: behaviour.cut_bytes]
            self.close_connection = True
        if behaviour.stall_s and start == 0:
            self.wfile.write(body[: len(body) // 2])
            body = body[len(body) // 2 :]
            time.sleep(behaviour.stall_s)
        for offset in range(0, len(body), _BLOCK_BYTES):
            self.wfile.write(body[offset : offset + _BLOCK_BYTES])
            if behaviour.block_pause_s:
                time.sleep(behaviour.block_pause_s)

    def _start(self, content: bytes, etag: str, behaviour: Behaviour) -> int | None:
        """First byte to send; None where the range lies outside."""
        ranges = self.headers.get("Range", "")
        if not ranges or not behaviour.ranges:
            return 0
        if behaviour.validator and self.headers.get("If-Range", etag) != etag:
            return 0
        start = int(ranges.removeprefix("bytes=").partition("-")[0])
        return start if start < len(content) else None
