"""An HTTP proxy in which requests fail on purpose: refused, cut, lost, silent, or changed."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

Fault = Literal["503", "429", "401", "hang", "reset", "lost", "cut", "change", "lie"]
"""reset: the connection ends in the middle of the request; lost: after the service carried it out;
cut: in the middle of the answer; change: one byte of the request is another; lie: the answer is
what `Lie` makes of its headers and its body."""
When = Callable[[str, str, int], bool]
Headers = list[tuple[str, str]]
Lie = Callable[[Headers, bytes], tuple[Headers, bytes]]
HOP_BY_HOP = ("connection", "keep-alive", "transfer-encoding", "server", "date")


class FaultProxy:
    """`fault` happens to the first `times` requests for which `when(method, path, size)`."""

    def __init__(self, upstream: int, fault: Fault, times: int, when: When, lie: Lie) -> None:
        self.upstream, self.fault, self.when, self.lie = upstream, fault, when, lie
        self.left = times
        self.fired = 0
        self.port = 0
        self.closing = threading.Event()
        self._lock = threading.Lock()

    def takes(self, method: str, path: str, size: int) -> bool:
        with self._lock:
            if not self.left or not self.when(method, path, size):
                return False
            self.left -= 1
            self.fired += 1
            return True


class _Handler(BaseHTTPRequestHandler):
    proxy: FaultProxy
    protocol_version = "HTTP/1.1"

    def _serve(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        if not self.proxy.takes(self.command, self.path, size):
            self._answer(*self._forward(self.rfile.read(size)))
            return
        getattr(self, f"_fault_{self.proxy.fault}")(size)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do_PATCH = _serve

    def _fault_503(self, size: int) -> None:
        self.rfile.read(size)
        body = b"<Error><Code>SlowDown</Code></Error>"
        self._answer(int(self.proxy.fault), [("Content-Length", str(len(body)))], body)

    _fault_429 = _fault_401 = _fault_503

    def _fault_hang(self, size: int) -> None:
        self.rfile.read(size)
        self.proxy.closing.wait()
        self.close_connection = True

    def _fault_reset(self, size: int) -> None:
        self.rfile.read(size // 2)
        self._reset()

    def _fault_lost(self, size: int) -> None:
        self._forward(self.rfile.read(size))
        self._reset()

    def _fault_cut(self, size: int) -> None:
        status, headers, body = self._forward(self.rfile.read(size))
        kept = [(name, value) for name, value in headers if name.lower() != "content-length"]
        whole = ("Content-Length", str(len(body)))
        self._answer(status, [*kept, whole], body[: len(body) // 2])
        self.wfile.flush()
        self._reset()

    def _fault_change(self, size: int) -> None:
        body = bytearray(self.rfile.read(size))
        body[size // 2] ^= 1
        self._answer(*self._forward(bytes(body)))

    def _fault_lie(self, size: int) -> None:
        status, headers, body = self._forward(self.rfile.read(size))
        headers, body = self.proxy.lie(headers, body)
        kept = [(name, value) for name, value in headers if name.lower() != "content-length"]
        self._answer(status, kept, body)

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = HTTPConnection("127.0.0.1", self.proxy.upstream, timeout=60)
        try:
            connection.request(self.command, self.path, body, dict(self.headers))
            answer = connection.getresponse()
            return answer.status, self._headers(answer), answer.read()
        finally:
            connection.close()

    def _headers(self, answer: HTTPResponse) -> list[tuple[str, str]]:
        """Where an upload goes on is here, too."""
        here, there = f":{self.proxy.port}", f":{self.proxy.upstream}"
        return [
            (name, value.replace(there, here) if name.lower() == "location" else value)
            for name, value in answer.getheaders()
            if name.lower() not in HOP_BY_HOP
        ]

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


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that gave up is what these tests are about."""


@contextmanager
def fault_proxy(
    port: int,
    fault: Fault,
    *,
    times: int = 2,
    when: When = lambda method, path, size: True,
    lie: Lie = lambda headers, body: (headers, body),
) -> Iterator[FaultProxy]:
    proxy = FaultProxy(port, fault, times, when, lie)
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": proxy}))
    proxy.port = server.server_port
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield proxy
    finally:
        proxy.closing.set()
        server.shutdown()
        server.server_close()
