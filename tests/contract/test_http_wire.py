"""What the connections make of a server: they are kept, replaced, given up, and never mixed up."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import TypeVar

import pytest

from chalicelib.adapters.http.text import origin_of, render_request
from chalicelib.adapters.http.wire import Connections, Response
from chalicelib.errors import BadInput
from tests.s3_answers import RESET, SILENCE, Scripted, answer, scripted_server

T = TypeVar("T")
MIB = 1 << 20
OK = answer(200, b"whole", "X-Name: one", "x-name: two")
Ask = Callable[[], Awaitable[Response]]


def use(server: Scripted, work: Callable[[Ask], Awaitable[T]], method: str = "GET") -> T:
    async def run() -> T:
        connections = Connections(4)
        origin = origin_of(server.url)
        request = render_request(method, "/k", {"Host": origin.authority})
        try:
            return await work(
                lambda: connections.send(
                    origin, request, bodiless=method == "HEAD", seconds=0.3
                )
            )  # fmt: skip
        finally:
            await connections.close()

    return asyncio.run(run())


async def twice(ask: Ask) -> list[bytes]:
    return [await (await ask()).read() for _ in range(2)]


def test_a_connection_is_used_again() -> None:
    with scripted_server([OK]) as server:
        assert use(server, twice) == [b"whole", b"whole"]
        assert (server.connections, len(server.asked)) == (1, 2)


def test_headers_are_found_in_any_case() -> None:
    async def work(ask: Ask) -> None:
        headers = (await ask()).headers
        assert (headers["X-NAME"], headers.get("none", "-")) == ("one, two", "-")

    with scripted_server([OK]) as server:
        use(server, work)


def test_a_kept_connection_that_is_dead_is_replaced_and_a_new_one_is_not() -> None:
    with scripted_server([OK, RESET, OK]) as server:
        assert use(server, twice) == [b"whole", b"whole"]
        assert (server.connections, len(server.asked)) == (2, 3)
    with scripted_server([RESET]) as server:
        with pytest.raises(ConnectionResetError):
            use(server, twice)
        assert len(server.asked) == 1


@pytest.mark.parametrize(
    "broken",
    [
        SILENCE, answer(200, b"half", length=500), b"no HTTP at all\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nwithout an end",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nwh",
        b"HTTP/1.1 101 Other\r\nUpgrade: other\r\nConnection: upgrade\r\n\r\n",
    ],
)  # fmt: skip
def test_what_is_no_whole_answer_is_none(broken: bytes) -> None:
    with scripted_server([broken]) as server, pytest.raises((ConnectionError, TimeoutError)):
        use(server, twice)


def test_an_answer_in_chunks_and_one_after_a_hint() -> None:
    chunked = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nwh\r\n3\r\nole\r\n0\r\n\r\n"
    )
    with scripted_server([chunked, b"HTTP/1.1 103 Hints\r\nLink: x\r\n\r\n" + OK]) as server:
        assert use(server, twice) == [b"whole", b"whole"]
        assert server.connections == 1


@pytest.mark.parametrize("more", [b"x", OK])
def test_what_nobody_asked_for_is_never_the_next_answer(more: bytes) -> None:
    with scripted_server([answer(200, b"one") + more, answer(200, b"two")]) as server:
        assert use(server, twice) == [b"one", b"two"]
        assert server.connections == 2


def test_an_answer_to_head_has_no_body_whatever_its_length() -> None:
    with scripted_server([answer(200, b"", length=5)]) as server:
        assert use(server, twice, "HEAD") == [b"", b""]


def test_whoever_leaves_a_body_gets_no_rest_of_it_later() -> None:
    async def work(ask: Ask) -> bytes:
        async with aclosing((await ask()).pieces()) as pieces:
            await anext(pieces)
        first = await ask()
        first.close()
        task = asyncio.ensure_future(_read(ask))
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return await (await ask()).read()

    large = answer(200, b"1" * 8 * MIB)
    with scripted_server([large, large, SILENCE, OK]) as server:
        assert use(server, work) == b"whole"


async def _read(ask: Ask) -> bytes:
    return await (await ask()).read()


def test_a_slow_reader_holds_the_server_back_and_loses_nothing() -> None:
    async def work(ask: Ask) -> int:
        response = await ask()
        read, most = 0, 0
        async with aclosing(response.pieces()) as pieces:
            async for piece in pieces:
                if read == 0:
                    # Longer than the silence that is allowed: the reader is slow, not the server.
                    await asyncio.sleep(0.7)
                    most = response.waiting_bytes
                read += len(piece)
        assert 0 < most < 2 * MIB
        return read + len(await (await ask()).read())

    with scripted_server([answer(200, b"x" * 16 * MIB)]) as server:
        assert use(server, work) == 32 * MIB


def test_no_more_are_on_their_way_than_allowed() -> None:
    async def work(ask: Ask) -> None:
        await asyncio.gather(*(_read(ask) for _ in range(40)))

    with scripted_server([OK]) as server:
        use(server, work)
        assert server.connections <= 4
        assert len(server.asked) == 40


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Of "localhost" and nobody else, with its key."""
    path = tmp_path / "pair.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
         "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", path,
         "-out", tmp_path / "certificate.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    path.write_bytes(path.read_bytes() + (tmp_path / "certificate.pem").read_bytes())
    return path


def over_tls(certificate: Path, host: str, length: int) -> int:
    """Bytes of three answers on one connection."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(answer(200, b"x" * length))
            await writer.drain()

    async def run() -> int:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
        server = await asyncio.start_server(talk, "127.0.0.1", 0, ssl=context)
        origin = origin_of(f"https://{host}:{server.sockets[0].getsockname()[1]}")
        request = render_request("GET", "/k", {"Host": origin.authority})
        connections = Connections(1)
        try:
            total = 0
            for _ in range(3):
                response = await connections.send(origin, request, bodiless=False, seconds=5)
                async with aclosing(response.pieces()) as pieces:
                    async for piece in pieces:
                        total += len(piece)
                        await asyncio.sleep(0)
            return total
        finally:
            await connections.close()
            server.close()

    return asyncio.run(run())


def test_over_tls_the_server_is_known_by_its_name(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        over_tls(certificate, "localhost", 5)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert over_tls(certificate, "localhost", 4 * MIB) == 12 * MIB
    with pytest.raises(ssl.SSLCertVerificationError):
        over_tls(certificate, "127.0.0.1", 5)


def test_a_value_cannot_begin_another_header() -> None:
    with pytest.raises(BadInput) as caught:
        render_request("PUT", "/k", {"x-amz-meta-a": "1\r\nx-amz-acl: public-read"})
    assert caught.value.instance_code == "header-broken"


@pytest.mark.parametrize("url", ["", "host", "ftp://host", "http://", "http://host:port"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(BadInput) as caught:
        origin_of(url)
    assert caught.value.instance_code == "bad-endpoint"


def test_an_address_has_a_port_and_tls_of_its_own() -> None:
    assert origin_of("https://s3.eu-west-1.amazonaws.com")[1:3] == (443, True)
    assert origin_of("http://[::1]:81/") == ("::1", 81, False, "[::1]:81")
