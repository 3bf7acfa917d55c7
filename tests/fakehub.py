"""A small Hub on 127.0.0.1: enough HTTP for ``datasets`` and ``huggingface_hub`` to run as they are."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

ROOT = Path(__file__).parent.parent
_API = re.compile(r"/api/(datasets|models)/([^/]+/[^/]+)(?:/(revision|tree|paths-info)/([^/]+)(?:/(.*))?)?")
_FILE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


@dataclass
class FakeHub:
    """Repositories by kind and name, each with one commit and a folder of files."""

    url: str
    repos: dict[tuple[str, str], tuple[str, Path]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)

    def add(self, kind: str, repo: str, commit: str, folder: Path) -> None:
        """Publish a folder as ``datasets`` or ``models`` repository."""
        self.repos[kind, repo] = commit, folder

    def environment(self, home: Path, *, offline: bool = False) -> dict[str, str]:
        """Return the environment variables of a process that uses this Hub and the cache in ``home``."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
        ours = {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "PYTHONPATH": str(ROOT)}
        return {**kept, **ours, "HF_HUB_OFFLINE": "1" if offline else "0"}


def run_python(code: str, environment: Mapping[str, str]) -> str:
    """Run code in a process of its own and return what it prints; a request error prints as ``RequestError: ...``."""
    wrapped = (
        "from bench.errors import RequestError\n"
        f"try:\n    exec({code!r})\n"
        "except RequestError as error:\n    print('RequestError:', error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", wrapped],
        env=dict(environment),
        cwd=environment["HF_HOME"],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    """Serve an empty Hub until the end of the block."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.hub = FakeHub(f"http://127.0.0.1:{server.server_port}")  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.hub  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        self._hub.requests.append(format % args)

    @property
    def _hub(self) -> FakeHub:
        return self.server.hub  # type: ignore[attr-defined, no-any-return]

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def _answer(self, body: bytes = b"") -> None:
        path = unquote(urlsplit(self.path).path)
        if match := _API.fullmatch(path):
            self._api(*match.groups(), body=body)
        elif match := _FILE.fullmatch(path):
            dataset, repo, revision, name = match.groups()
            self._file("datasets" if dataset else "models", repo, revision, name)
        else:
            self._send(404, b"{}")

    def _find(self, kind: str, repo: str, revision: str | None) -> tuple[str, Path] | None:
        entry = self._hub.repos.get((kind, repo))
        if entry is None:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif revision not in (None, "main", entry[0]):
            self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
            return None
        return entry

    def _api(
        self, kind: str, repo: str, what: str | None, revision: str | None, under: str | None, *, body: bytes
    ) -> None:
        entry = self._find(kind, repo, revision)
        if entry is None:
            return
        commit, folder = entry
        files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
        if what == "tree":
            recursive = "recursive=true" in self.path.lower()
            self._json(_listing(files, f"{under}/" if under else "", recursive=recursive))
        elif what == "paths-info":
            wanted = json.loads(body)["paths"] if body[:1] == b"{" else parse_qs(body.decode())["paths"]
            entries = [_entry(name, files[name]) for name in wanted if name in files]
            folders = [name for name in wanted if any(other.startswith(f"{name}/") for other in files)]
            self._json(entries + [_folder(name) for name in folders])
        else:
            siblings = [{"rfilename": name} for name in files]
            self._json({"id": repo, "sha": commit, "siblings": siblings, "private": False, "tags": [], "downloads": 0})

    def _file(self, kind: str, repo: str, revision: str, name: str) -> None:
        entry = self._find(kind, repo, revision)
        if entry is None:
            return
        commit, folder = entry
        if not (folder / name).is_file():
            self._send(404, b"{}", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
            return
        data = (folder / name).read_bytes()
        status, headers = 200, {"X-Repo-Commit": commit, "ETag": f'"{hashlib.sha1(data).hexdigest()}"'}
        if span := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            first, last = int(span[1]), min(int(span[2] or len(data) - 1), len(data) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
            status, data = 206, data[first : last + 1]
        self._send(status, data, headers)

    def _json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, data: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def _entry(name: str, path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    return {"type": "file", "path": name, "oid": hashlib.sha1(data).hexdigest(), "size": len(data)}


def _folder(name: str) -> dict[str, Any]:
    return {"type": "directory", "path": name, "oid": "0" * 40, "size": 0}


def _listing(files: Mapping[str, Path], under: str, *, recursive: bool) -> list[dict[str, Any]]:
    inside = {name: path for name, path in files.items() if name.startswith(under)}
    if recursive:
        return [_entry(name, path) for name, path in inside.items()]
    children = {name: path for name, path in inside.items() if "/" not in name[len(under) :]}
    folders = dict.fromkeys(under + name[len(under) :].split("/")[0] for name in inside.keys() - children.keys())
    return [_folder(name) for name in sorted(folders)] + [_entry(name, path) for name, path in children.items()]
