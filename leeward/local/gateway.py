"""moto's request handler, but a connection serves many requests, one after the other, as AWS's do.

werkzeug's handler ends each connection with its first answer. A new connection and a new thread for
each of a drill's 1,500 requests took a third of the server's time, and as much of the callers'.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from moto.moto_server.werkzeug_app import MotoRequestHandler
from werkzeug.exceptions import ClientDisconnected

# With what is shorter the head of an answer goes out in one piece.
SMALL_BYTES = 1 << 16
WITHOUT_BODY = ("204", "304")

Headers = list[tuple[str, str]]


class Body(io.RawIOBase):
    """The bytes of one request and none of the next; ClientDisconnected when they do not come."""

    def __init__(self, stream: Any, length: int) -> None:
        self._stream = stream
        self.left = length

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        wanted = self.left if size is None or size < 0 else min(size, self.left)
        data: bytes = self._stream.read(wanted)
        if len(data) < wanted:
            raise ClientDisconnected
        self.left -= wanted
        return data

    def readall(self) -> bytes:
        return self.read()

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class Gateway(MotoRequestHandler):
    """See the module. An application that fails is answered for with 500, and told on stderr."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def handle_expect_100(self) -> bool:
        """Whoever waits to be asked for the body is asked when it is wanted: see `run_wsgi`."""
        return True

    def run_wsgi(self) -> None:
        if "100-continue" in self.headers.get("Expect", ""):
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.environ = environ = self.make_environ()
        body = self._limit_body(environ)
        self._begun = answered = False
        try:
            with suppress(ClientDisconnected):  # in the middle of its body
                self._serve(environ)
                self._drain(body)
            answered = True
        finally:
            if not answered:
                self._apologise()
        self.close_connection |= body.left > 0

    def _limit_body(self, environ: dict[str, Any]) -> Body:
        body = Body(self.rfile, 0)
        if "wsgi.input_terminated" in environ:  # in chunks: where it ends, its reader knows
            self.close_connection = True
        else:
            body.left = int(environ.get("CONTENT_LENGTH") or 0)
            environ |= {"wsgi.input": body, "wsgi.input_terminated": True}
        return body

    def _serve(self, environ: dict[str, Any]) -> None:
        told: list[tuple[str, Headers]] = []

        def start(status: str, headers: Headers, _: Any = None) -> Callable[[bytes], Any]:
            told.append((status, headers))
            return self.wfile.write

        parts: Iterable[bytes] = self.server.app(environ, start)
        try:
            self._send(*_with_length(*told[-1], parts))
        finally:
            if hasattr(parts, "close"):
                parts.close()

    def _send(self, status: str, headers: Headers, parts: Iterable[bytes]) -> None:
        lines = [f"HTTP/1.1 {status}", f"Date: {self.date_time_string()}"]
        lines += [f"{name}: {value}" for name, value in headers]
        if self.close_connection:
            lines.append("Connection: close")
        head = "\r\n".join((*lines, "\r\n")).encode("latin-1")
        self._begun = True
        if self.command == "HEAD" or status.startswith(WITHOUT_BODY):
            self.wfile.write(head)
            return
        for part in parts:
            if len(part) < SMALL_BYTES:
                head += part
                continue
            self.wfile.write(head)
            self.wfile.write(part)
            head = b""
        self.wfile.write(head)

    def _apologise(self) -> None:
        self.close_connection = True
        if not self._begun:
            self._send("500 Internal Server Error", [("Content-Length", "0")], ())

    def _drain(self, body: Body) -> None:
        """What the application did not read is not the next request."""
        while body.left and not self.close_connection:
            body.read(SMALL_BYTES)


def _with_length(
    status: str, headers: Headers, parts: Iterable[bytes]
) -> tuple[str, Headers, Iterable[bytes]]:
    """Where the next answer begins must be known."""
    if any(name.lower() == "content-length" for name, _ in headers):
        return status, headers, parts
    whole = b"".join(parts)
    return status, [*headers, ("Content-Length", str(len(whole)))], (whole,)
