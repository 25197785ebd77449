"""HTTP for the servers of the benchmarks, as light as Python allows: they must not be the limit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote

import httptools


@dataclass
class Request:
    """`path` is as it was sent. Names of headers are in lower case."""

    method: str = ""
    path: str = ""
    query: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def name(self) -> str:
        return unquote(self.path)


# The status and the text.
Answer = Callable[[Request], Awaitable[tuple[int, str]]]


class _Connection(asyncio.Protocol):
    """One request after the other. The parser calls the methods on_*."""

    transport: asyncio.Transport

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._parser = httptools.HttpRequestParser(self)
        self._request = Request()
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._request = Request()

    def on_url(self, url: bytes) -> None:
        path, _, query = url.decode().partition("?")
        self._request.path = path
        if query:
            self._request.query = dict(parse_qsl(query, keep_blank_values=True))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._request.headers[name.decode().lower()] = value.decode()

    def on_body(self, body: bytes) -> None:
        self._request.body += body

    def on_message_complete(self) -> None:
        self._request.method = self._parser.get_method().decode()
        task = asyncio.ensure_future(self._reply(self._request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reply(self, request: Request) -> None:
        status, text = await self._answer(request)
        body = text.encode()
        head = (
            f"HTTP/1.1 {status} Any\r\nServer: AmazonS3\r\nContent-Type: application/xml\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        self.transport.write(head.encode() + body)


async def serve(port: int, answer: Answer) -> None:
    """Until it is cancelled."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: _Connection(answer), "127.0.0.1", port, backlog=2048
    )  # fmt: skip
    async with server:
        await server.serve_forever()
