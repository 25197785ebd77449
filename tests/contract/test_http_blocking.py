"""What a blocking connection makes of a server's answers: whole, or an error, never a part."""

from __future__ import annotations

import select
import socket
import ssl
import subprocess
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from chalicelib.adapters.http.blocking import Answer, Connection
from chalicelib.adapters.http.text import origin_of, render_head, render_request
from tests.s3_answers import RESET, SILENCE, answer, scripted_server

LONG = bytes(range(256)) * 400  # more than one call of the socket brings
CHUNKED = b"HTTP/1.1 200 Any\r\nTransfer-Encoding: chunked\r\n\r\n"


@contextmanager
def asked(*answers: bytes, method: str = "GET", seconds: float = 60) -> Iterator[list[Answer]]:
    """The answers to as many requests on one connection."""
    with scripted_server(answers) as server:
        connection = Connection(origin_of(server.url), seconds=seconds, tls=None)
        request = render_request(method, "/k", {"Host": "here"})
        found: list[Answer] = []
        try:
            for _ in answers:
                found.append(connection.ask(request, bodiless=method == "HEAD"))
                if len(found) < len(answers):
                    body_of(found[-1])
            yield found
        finally:
            connection.close()


def body_of(answer: Answer, piece: int = 10_000) -> bytes:
    return b"".join(iter(lambda: answer.read(piece), b""))


def in_chunks(body: bytes, size: int) -> bytes:
    pieces = (body[at : at + size] for at in range(0, len(body), size))
    framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return CHUNKED + framed + b"0\r\n\r\n"


@pytest.mark.parametrize("body", [b"", b"k", LONG], ids=["empty", "one", "long"])
@pytest.mark.parametrize("piece", [1000, 1 << 20])
def test_a_body_of_a_told_length_is_whole(body: bytes, piece: int) -> None:
    with asked(answer(200, body, "X-Name: a", "x-name: b")) as [told]:
        assert (told.status, told.headers["X-NAME"]) == (200, "a, b")
        assert body_of(told, piece) == body
        assert told.whole


def test_a_body_in_chunks_is_whole() -> None:
    with asked(in_chunks(LONG, 777)) as [told]:
        assert body_of(told) == LONG
        assert told.whole


def test_a_body_that_ends_with_the_connection_is_whole_and_the_connection_over() -> None:
    said = b"HTTP/1.1 200 Any\r\nConnection: close\r\n\r\n" + LONG
    with asked(said) as [told]:
        assert body_of(told) == LONG
        assert told.whole
        assert not told._connection.usable


def test_a_connection_is_used_again() -> None:
    with asked(answer(200, LONG), in_chunks(b"second", 2), answer(404, b"third")) as found:
        assert body_of(found[2]) == b"third"
        assert [it.status for it in found] == [200, 200, 404]
        assert found[2]._connection.usable


def test_an_answer_to_head_has_no_body_whatever_its_length() -> None:
    head = b"HTTP/1.1 200 Any\r\nContent-Length: 7\r\n\r\n"
    with asked(head, method="HEAD") as [told]:
        assert (told.headers["Content-Length"], told.read(7), told.whole) == ("7", b"", True)


def test_what_comes_before_an_answer_is_passed_over() -> None:
    early = b"HTTP/1.1 100 Continue\r\nX-Early: yes\r\n\r\n"
    with asked(early + answer(200, b"body")) as [told]:
        assert (told.status, "X-Early" in told.headers, body_of(told)) == (200, False, b"body")


def test_a_body_that_is_cut_is_an_error_after_what_came() -> None:
    with asked(answer(200, b"half", length=8)) as [told]:
        assert told.read(100) == b"half"
        for _ in range(2):
            with pytest.raises(ConnectionResetError):
                told.read(100)
        assert not told.whole


@pytest.mark.parametrize("cut", [1, 8, len(LONG)])
def test_chunks_that_are_cut_are_an_error(cut: int) -> None:
    said = in_chunks(LONG, 5000)[:-cut] + b"Connection: close"
    with asked(said) as [told], pytest.raises(OSError, match="closed|HTTP"):
        body_of(told)
    assert not told.whole


@pytest.mark.parametrize(
    "said",
    [RESET, b"SSH-2.0-Any\r\n", b"HTTP/1.1 200 Any\r\nContent-Length: -4\r\n\r\n",
     b"HTTP/1.1 200 Any\r\nContent-Length: 4 Connection: close"],
    ids=["nothing", "another protocol", "no length", "half a head"],
)  # fmt: skip
def test_what_is_no_answer_is_an_error(said: bytes) -> None:
    with pytest.raises(ConnectionError), asked(said):
        pass


def test_bytes_after_an_answer_are_an_error() -> None:
    with pytest.raises(ConnectionError), asked(answer(200, b"body") + answer(200, b"more")):
        pass


def test_silence_is_an_error() -> None:
    with pytest.raises(TimeoutError), asked(SILENCE, seconds=0.05):
        pass


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    """A server's certificate with its key, and who trusts it."""
    folder = tmp_path_factory.mktemp("certificate")
    certificate = folder / "server.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
         "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", certificate,
         "-out", folder / "certificate.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    certificate.write_bytes(certificate.read_bytes() + (folder / "certificate.pem").read_bytes())
    return certificate, ssl.create_default_context(cafile=str(folder / "certificate.pem"))


def test_over_tls_the_server_is_known_by_its_name(certified: tuple[Path, ssl.SSLContext]) -> None:
    certificate, trusting = certified
    with tls_server(certificate, answer(200, LONG)) as port:
        assert over_tls(f"https://localhost:{port}", trusting) == LONG
        with pytest.raises(ssl.SSLCertVerificationError):
            over_tls(f"https://127.0.0.1:{port}", trusting)
        with pytest.raises(ssl.SSLCertVerificationError):
            over_tls(f"https://localhost:{port}", ssl.create_default_context())


@contextmanager
def proxy_to(port: int, said: bytes) -> Iterator[tuple[str, list[str]]]:
    """Lets one connection through to the port after `said`; what it was asked, line by line."""
    asked: list[str] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def pump(one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(1 << 16):
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)

    def serve() -> None:
        client, _ = listener.accept()
        with client, socket.create_connection(("127.0.0.1", port)) as server:
            asked.extend(client.recv(1 << 16).decode().splitlines())
            client.sendall(said)
            back = threading.Thread(target=pump, args=(server, client))
            back.start()
            pump(client, server)
            back.join()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://me:p%40ss@127.0.0.1:{listener.getsockname()[1]}", asked
    finally:
        listener.close()
        thread.join(60)


def test_a_proxy_passes_on_what_it_cannot_read(certified: tuple[Path, ssl.SSLContext]) -> None:
    certificate, trusting = certified
    with (
        tls_server(certificate, answer(200, LONG)) as port,
        proxy_to(port, b"HTTP/1.1 200 Connection established\r\nVia: here\r\n\r\n") as (url, asked),
    ):
        assert over_tls(f"https://localhost:{port}", trusting, url) == LONG
    assert asked[:2] == [f"CONNECT localhost:{port} HTTP/1.1", f"Host: localhost:{port}"]
    assert asked[2] == f"Proxy-Authorization: Basic {b64encode(b'me:p@ss').decode()}"


@pytest.mark.parametrize("said", [b"HTTP/1.1 407 No\r\n\r\n", b"\r\n\r\n", b""])
def test_a_proxy_that_lets_nobody_through_is_an_error(
    certified: tuple[Path, ssl.SSLContext], said: bytes
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse() -> None:
            client, _ = listener.accept()
            with client:
                client.recv(1 << 16)
                client.sendall(said)

        threading.Thread(target=refuse, daemon=True).start()
        proxy = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(ConnectionError):
            over_tls("https://localhost:9", certified[1], proxy)


def over_tls(url: str, context: ssl.SSLContext, proxy: str = "") -> bytes:
    origin = origin_of(url)
    connection = Connection(origin, seconds=60, tls=context, proxy=proxy)
    try:
        told = connection.ask(render_request("GET", "/k", {"Host": origin.authority}))
        return body_of(told)
    finally:
        connection.close()


@contextmanager
def tls_server(certificate: Path, said: bytes) -> Iterator[int]:
    """Answers each connection once; a client that does not trust it is passed over."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                plain, _ = listener.accept()
                with suppress(OSError), context.wrap_socket(plain, server_side=True) as client:
                    client.recv(1 << 16)
                    client.sendall(said)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(60)


def test_a_kept_connection_that_the_server_ended_is_not_quiet() -> None:
    """It is replaced before a request is sent on it, which would be sent twice."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        connection = Connection(origin_of(url), seconds=60, tls=None)
        client, _ = listener.accept()
        with client:
            threading.Thread(target=client.sendall, args=(answer(200, b"k"),)).start()
            told = connection.ask(render_request("GET", "/k", {"Host": "here"}))
            assert told.read_all() == b"k"
            assert (told.whole, connection.usable, connection.quiet) == (True, True, True)
            client.shutdown(socket.SHUT_WR)
            assert select.select([connection.socket], [], [], 60)[0]
            assert not connection.quiet
        connection.close()


@pytest.mark.parametrize("size", [100, 3 << 20])
def test_a_body_is_sent_whole(size: int) -> None:
    sent = LONG * (size // len(LONG) + 1)
    with scripted_server([answer(200, b"k")]) as server:
        connection = Connection(origin_of(server.url), seconds=60, tls=None)
        head = render_head("PUT", "/k", {"Host": "here"}, len(sent))
        assert connection.ask(head, memoryview(sent)).read_all() == b"k"
        assert connection.ask(head, bytearray(sent)).read_all() == b"k"
        connection.close()
    assert f"Content-Length: {len(sent)}" in server.asked[0]


@pytest.mark.parametrize("body", [in_chunks(LONG, 777), answer(200, LONG)], ids=["chunks", "told"])
def test_all_of_a_body_is_read_at_once(body: bytes) -> None:
    with asked(body) as [told]:
        assert told.read_all() == LONG
        assert told.whole
