"""Google's resumable uploads as Google documents them, before an emulator that lacks them.

fake-gcs-server appends whatever comes, and ends an upload that is asked how far it is. Here bytes
that have arrived already are passed over, and `bytes */*` is answered with how many have. All
other requests go on to the emulator. Source: "Perform resumable uploads", "Status checks".
"""

from __future__ import annotations

import json
import re
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import urllib3

META = "X-Goog-Meta-"
KEPT_HEADERS = ("Content-Type", "Range", "Authorization")


class _Sessions:
    def __init__(self, port: int) -> None:
        self.emulator = f"http://127.0.0.1:{port}"
        self.pool = urllib3.PoolManager()
        self.open: dict[str, tuple[str, dict[str, Any], bytearray]] = {}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    sessions: _Sessions

    def log_message(self, *_: Any) -> None: ...

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        path = self.path.split("?")[0]
        if self.command == "POST" and "uploadType=resumable" in self.path:
            self._begin(json.loads(body))
        elif not path.startswith("/session/"):
            self._forward(self.command, self.path, body)
        elif path not in self.sessions.open:
            self._say(404)
        elif self.command == "DELETE":
            del self.sessions.open[path]
            self._say(499)
        else:
            self._chunk(path, body)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = _any

    def _begin(self, resource: dict[str, Any]) -> None:
        session = f"/session/{secrets.token_hex(8)}"
        self.sessions.open[session] = (urlsplit(self.path).path, resource, bytearray())
        port = self.server.server_address[1]
        self._say(200, b"{}", Location=f"http://127.0.0.1:{port}{session}")

    def _chunk(self, session: str, body: bytes) -> None:
        upload, resource, kept = self.sessions.open[session]
        span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", self.headers["Content-Range"])
        if span:
            start = int(span[1])
            if start > len(kept):
                return self._say(503)
            kept += body[len(kept) - start :]
        if span and span[2] != "*" and len(kept) == int(span[2]):
            return self._end(session, upload, resource, bytes(kept))
        arrived = {"Range": f"bytes=0-{len(kept) - 1}"} if kept else {}
        return self._say(308, b"", **arrived)

    def _end(self, session: str, upload: str, resource: dict[str, Any], content: bytes) -> None:
        noted = {
            name.removeprefix(META): value
            for name, value in self.headers.items()
            if name.startswith(META)
        }
        head = json.dumps({**resource, "metadata": noted}).encode()
        first = [b"--lw", b"Content-Type: application/json", b"", head]
        second = [b"--lw", b"Content-Type: application/octet-stream", b"", content]
        lines = [*first, *second, b"--lw--", b""]
        del self.sessions.open[session]
        self._forward(
            "POST", f"{upload}?uploadType=multipart", b"\r\n".join(lines),
            {"Content-Type": "multipart/related; boundary=lw"},
        )  # fmt: skip

    def _forward(
        self, method: str, path: str, body: bytes, headers: dict[str, str] | None = None
    ) -> None:
        kept = {name: self.headers[name] for name in KEPT_HEADERS if self.headers.get(name)}
        answer = self.sessions.pool.request(
            method, f"{self.sessions.emulator}{path}", body=body or None,
            headers=headers or kept, retries=False, decode_content=False,
        )  # fmt: skip
        self._say(answer.status, answer.data)

    def _say(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def google_sessions(emulator_port: int) -> Iterator[int]:
    """The port to use instead of the emulator's."""
    handler = type("Handler", (_Handler,), {"sessions": _Sessions(emulator_port)})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
