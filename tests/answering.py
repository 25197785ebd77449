"""Small HTTP servers that say what a test tells them to."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Answering:
    """`status` is what it answers from now on."""

    def __init__(self) -> None:
        self.status = 200
        self._server = self._listen(0)
        self.port = self._server.server_port
        self.address = f"http://127.0.0.1:{self.port}/health"

    def _listen(self, port: int) -> ThreadingHTTPServer:
        told = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:  # noqa: N802 - the name http.server calls
                body = b'{"healthy": true}' if told.status == 200 else b"broken"
                self.send_response(told.status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return server

    @contextmanager
    def away(self) -> Iterator[None]:
        """Nobody listens at its address while the block runs."""
        self.stop()
        try:
            yield
        finally:
            self._server = self._listen(self.port)

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def answering() -> Iterator[Answering]:
    server = Answering()
    try:
        yield server
    finally:
        server.stop()
