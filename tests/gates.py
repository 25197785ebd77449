"""A gate between the functions and the cloud's endpoint: requests pass it, fail there, or hang."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

SLOW_DOWN = (
    b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
)
HOP_BY_HOP = ("connection", "keep-alive", "transfer-encoding", "server", "date")
Verdict = Literal["pass", "503", "hang"]


class Gate:
    """`judge(method, path)` decides on each request; `stopped` counts those that did not pass."""

    def __init__(self, upstream: str, judge: Callable[[str, str], Verdict]) -> None:
        parts = urlsplit(upstream)
        self.upstream = (str(parts.hostname), int(parts.port or 80))
        self.judge = judge
        self.stopped = 0
        self.closing = threading.Event()
        self.url = ""

    def open(self) -> None:
        """From now on everything passes."""
        self.judge = lambda method, path: "pass"


class _Handler(BaseHTTPRequestHandler):
    gate: Gate
    protocol_version = "HTTP/1.1"

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        verdict = self.gate.judge(self.command, self.path)
        if verdict == "pass":
            self._forward(body)
            return
        self.gate.stopped += 1
        if verdict == "hang":
            self.gate.closing.wait()
            self.close_connection = True
            return
        self._answer(503, [("Content-Type", "application/xml")], SLOW_DOWN)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve

    def _forward(self, body: bytes) -> None:
        connection = HTTPConnection(*self.gate.upstream, timeout=60)
        try:
            connection.request(self.command, self.path, body, dict(self.headers))
            answer = connection.getresponse()
            headers = [it for it in answer.getheaders() if it[0].lower() not in HOP_BY_HOP]
            self._answer(answer.status, headers, answer.read())
        finally:
            connection.close()

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if "content-length" not in {name.lower() for name, _ in headers}:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def gate(upstream: str, judge: Callable[[str, str], Verdict]) -> Iterator[Gate]:
    made = Gate(upstream, judge)
    handler = type("Handler", (_Handler,), {"gate": made})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    made.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield made
    finally:
        made.closing.set()
        server.shutdown()
        server.server_close()
