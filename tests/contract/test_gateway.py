"""The local cloud's door: what goes over one connection, against a real socket."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from leeward.local.fault_server import Server
from leeward.local.faults import Fault, Faults

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
SIGNED = {"Authorization": "AWS4-HMAC-SHA256 Credential=k/20261123/us-east-1/sts/aws4_request"}


class Counting(Server):
    """How many connections came."""

    connections = 0

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections += 1
        super().process_request(request, client_address)


def application(environ: dict[str, Any], start: Any) -> Any:
    """Answers with what it read, in the way that the path names."""
    path = environ["PATH_INFO"]
    if path == "/fails":
        raise RuntimeError("as moto where it lacks something")
    if path == "/unread":
        start("200 OK", [("Content-Length", "2")])
        return [b"ok"]
    body = environ["wsgi.input"].read()
    if path == "/pieces":
        start("200 OK", [])
        return iter((b"<", body, b">"))
    if path == "/none":
        start("204 No Content", [])
        return [b"said all the same"]
    start("200 OK", [("Content-Length", str(len(body)))])
    return [body]


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
def server(faults: Faults) -> Iterator[Counting]:
    server = Counting("127.0.0.1", application, faults)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def connection(server: Counting) -> Iterator[http.client.HTTPConnection]:
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)) as made:
        yield made


def ask(
    connection: http.client.HTTPConnection, method: str, path: str, body: bytes = b"", **more: str
) -> tuple[int, bytes]:
    connection.request(method, path, body, more)
    answer = connection.getresponse()
    return answer.status, answer.read()


def test_one_connection_serves_many_requests(
    server: Counting, connection: http.client.HTTPConnection
) -> None:
    large = bytes(3 << 20)
    for body in (b"first", b"", large, b"last"):
        assert ask(connection, "PUT", "/", body) == (200, body)
    assert server.connections == 1


@pytest.mark.parametrize("path", ["/unread", "/pieces", "/none"])
def test_an_answer_ends_where_the_next_begins(
    path: str, server: Counting, connection: http.client.HTTPConnection
) -> None:
    expected = {"/unread": (200, b"ok"), "/pieces": (200, b"<body>"), "/none": (204, b"")}
    for _ in range(3):
        assert ask(connection, "POST", path, b"body") == expected[path]
    assert ask(connection, "PUT", "/", b"after it") == (200, b"after it")
    assert server.connections == 1


def test_nothing_follows_the_head_of_an_answer_to_head(
    server: Counting, connection: http.client.HTTPConnection
) -> None:
    assert ask(connection, "HEAD", "/unread") == (200, b"")
    assert ask(connection, "GET", "/unread") == (200, b"ok")
    assert server.connections == 1


def test_who_waits_to_be_asked_for_the_body_is_asked_once(server: Counting) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as raw:
        raw.sendall(
            b"PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 4\r\n"
            b"Connection: close\r\n\r\n"
        )
        assert raw.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        raw.sendall(b"body")
        answer = b"".join(iter(lambda: raw.recv(1000), b""))
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\nbody")


def test_an_application_that_fails_is_answered_for(
    server: Counting, connection: http.client.HTTPConnection, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as raw:
        raw.sendall(b"GET /fails HTTP/1.1\r\nHost: h\r\n\r\n")
        answer = b"".join(iter(lambda: raw.recv(1000), b""))  # to the end of the connection
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert ask(connection, "GET", "/unread") == (200, b"ok")
    assert "as moto where it lacks something" in capsys.readouterr().err


def test_a_body_that_is_cut_off_ends_its_connection(
    server: Counting, connection: http.client.HTTPConnection, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as raw:
        raw.sendall(b"PUT /unread HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nhalf")
        raw.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: raw.recv(1000), b""))
    assert answer.endswith(b"\r\n\r\nok")
    assert ask(connection, "GET", "/unread") == (200, b"ok")
    assert capsys.readouterr().err == ""


def test_a_form_that_was_read_for_a_fault_is_not_lost(
    server: Counting, connection: http.client.HTTPConnection, faults: Faults
) -> None:
    faults.add(Fault("us-west-2"))
    for _ in range(2):
        assert ask(connection, "POST", "/", b"Action=Look", **FORM, **SIGNED) == (
            200,
            b"Action=Look",
        )
    assert server.connections == 1
    faults.add(Fault("us-east-1"))
    with pytest.raises(http.client.RemoteDisconnected):
        ask(connection, "POST", "/", b"Action=Look", **FORM, **SIGNED)


def test_connections_end_with_the_server(faults: Faults) -> None:
    server = Counting("127.0.0.1", application, faults)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)) as kept:
        assert ask(kept, "GET", "/unread") == (200, b"ok")
        server.shutdown()
        server.server_close()
        with pytest.raises((ConnectionError, http.client.RemoteDisconnected)):
            ask(kept, "GET", "/unread")
