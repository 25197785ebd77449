"""Servers in threads: they answer until they are ended, and nothing of them is left."""

from __future__ import annotations

import socket
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from leeward.local.serving import serve


class Hello(BaseHTTPRequestHandler):
    def do_GET(self) -> None:  # noqa: N802 - the name http.server calls
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    made = ThreadingHTTPServer(("127.0.0.1", 0), Hello)
    yield made
    made.server_close()


def ask(server: ThreadingHTTPServer) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/") as answer:
        return bytes(answer.read())


def test_each_connection_is_answered(server: ThreadingHTTPServer) -> None:
    end = serve(server)
    assert [ask(server) for _ in range(3)] == [b"hello"] * 3
    end()


def test_nothing_of_it_is_left_after_its_end(server: ThreadingHTTPServer) -> None:
    before = threading.active_count()
    end = serve(server)
    end()
    end()
    assert threading.active_count() == before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.server_address[1]))
