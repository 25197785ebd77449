"""Who listens, who refuses, who says nothing: told apart at real sockets."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from chalicelib.adapters.reach import reach_tcp
from chalicelib.services.steps.sites.sightings import PROBE_SECONDS, _health

LOOPBACK = "127.0.0.1"


@contextmanager
def http_server(status: int) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None: ...

    with ThreadingHTTPServer((LOOPBACK, 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://{LOOPBACK}:{server.server_port}/health"
        server.shutdown()


def free_port() -> int:
    with socket.create_server((LOOPBACK, 0)) as server:
        return int(server.getsockname()[1])


@contextmanager
def full_queue() -> Iterator[int]:
    """A port whose queue of connections is full: the kernel drops what comes, and says nothing."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind((LOOPBACK, 0))
        server.listen(0)
        port = server.getsockname()[1]
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex((LOOPBACK, port))
        time.sleep(0.05)
        yield port


def test_a_listener_serves() -> None:
    with socket.create_server((LOOPBACK, 0)) as server:
        seen = reach_tcp(LOOPBACK, server.getsockname()[1], within_seconds=2)
    assert seen.reach == "serves"


def test_a_closed_port_refuses_at_once() -> None:
    seen = reach_tcp(LOOPBACK, free_port(), within_seconds=20)
    assert (seen.reach, seen.found) == ("refuses", "the network says ECONNREFUSED")
    assert seen.seconds < 10


def test_who_never_takes_the_connection_is_silent() -> None:
    with full_queue() as port:
        seen = reach_tcp(LOOPBACK, port, within_seconds=0.5)
    assert seen.reach == "silent"
    assert 0.4 < seen.seconds < 10


def test_a_name_without_an_address_refuses() -> None:
    seen = reach_tcp("nobody.invalid", 80, within_seconds=2)
    assert seen.reach in ("refuses", "silent")  # silent where there is no name server at all


@pytest.mark.parametrize(("status", "reach"), [(200, "serves"), (503, "falters")])
def test_an_answer_counts_by_what_it_says(status: int, reach: str) -> None:
    with http_server(status) as address:
        assert _health(address).reach == reach


def test_nobody_at_an_address_is_no_bad_answer() -> None:
    assert _health(f"http://{LOOPBACK}:{free_port()}/health").reach == "refuses"


def test_a_connection_without_an_answer_is_silence_and_ends_in_time() -> None:
    began = time.monotonic()
    with socket.create_server((LOOPBACK, 0)) as server:
        seen = _health(f"http://{LOOPBACK}:{server.getsockname()[1]}/health")
    assert seen.reach == "silent"
    assert time.monotonic() - began < PROBE_SECONDS
