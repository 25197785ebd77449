"""Small HTTP servers that say what a test tells them to."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Answering:
    """`status` is what it answers from now on; `asked` how often it was."""

    def __init__(self) -> None:
        self.status = 200
        self.asked = 0
        told = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:  # noqa: N802 - the name http.server calls
                told.asked += 1
                body = b'{"healthy": true}' if told.status == 200 else b"broken"
                self.send_response(told.status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}/health"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Nobody listens any more."""
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def answering() -> Iterator[Answering]:
    server = Answering()
    try:
        yield server
    finally:
        server.stop()
