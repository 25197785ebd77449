"""HTTP/1.1 on asyncio, parsed by llhttp: connections that are kept and used again.

What S3 needs and no more: one request at a time on a connection, its body in one piece, and an
answer that says where it ends. Whatever breaks is an OSError (after silence a TimeoutError). An
answer is here when its headers are; its connection is free again when its body has come, and is
closed when the caller leaves before that.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncGenerator, Callable
from typing import Any, NamedTuple

import httptools

from chalicelib.adapters.http.text import IDLE_SECONDS, Headers, Origin

MIB = 1 << 20
CONNECT_SECONDS = 10.0
DNS_SECONDS = 60.0
# So much of a body waits for its reader before the server has to.
READ_AHEAD_BYTES = MIB
CLOSED = (ConnectionResetError, BrokenPipeError)


class Response:
    """An answer whose body may still be on its way. Made by Connections."""

    def __init__(self, connection: _Connection, *, bodiless: bool) -> None:
        self.status = 0
        self.headers = Headers()
        self.whole = False
        self.bodiless = bodiless
        self.begun = False
        self._connection = connection
        self._waiter: asyncio.Future[None] | None = None
        self._pieces: list[bytes] = []
        self.waiting_bytes = 0
        self._error: OSError | None = None
        self._paused = False
        self._all_wanted = False

    @property
    def paused(self) -> bool:
        """Its reader is slower than the server."""
        return self._paused

    async def read(self) -> bytes:
        """The rest of the body."""
        self._all_wanted = True
        self._resume()
        while not self.whole:
            await self.wait()
        pieces, self._pieces = self._pieces, []
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The body as it comes."""
        while True:
            pieces, self._pieces, self.waiting_bytes = self._pieces, [], 0
            self._resume()
            for piece in pieces:
                yield piece
            if not self._pieces:
                if self.whole:
                    return
                await self.wait()

    async def wait(self) -> None:
        """For anything new. Whoever is cancelled here leaves no connection behind."""
        if self._error is not None:
            raise self._error
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        except BaseException:
            self.close()
            raise
        finally:
            self._waiter = None

    def close(self) -> None:
        """Nothing more is wanted: a connection in the middle of an answer is of no use."""
        if not self.whole:
            self._connection.fail(ConnectionAbortedError("left by its reader"))

    def begin(self, status: int) -> None:
        self.status, self.begun = status, True
        if self.bodiless:
            self.whole = True
        self._wake()

    def feed(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self.waiting_bytes += len(piece)
        if self.waiting_bytes > READ_AHEAD_BYTES and not (self._all_wanted or self._paused):
            self._paused = True
            self._connection.transport.pause_reading()
        if not self._all_wanted:
            self._wake()

    def end(self) -> None:
        self.whole = True
        self._wake()

    def fail(self, error: OSError) -> None:
        self._error = error
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _resume(self) -> None:
        if self._paused and not self.whole and self._error is None:
            self._connection.transport.resume_reading()
        self._paused = False


class _Stale(ConnectionResetError):
    """The server closed a connection that was kept, and answered nothing on it."""


class _Connection(asyncio.Protocol):
    """One connection and the request that is on it. The parser calls the methods on_*."""

    transport: asyncio.Transport

    def __init__(self, ended: Callable[[_Connection], None]) -> None:
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._answer: Response | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._heard_at = self._seconds = 0.0
        self._used = False
        self._kept_alive = True
        self.usable = True
        self.idle_since = 0.0

    async def ask(self, request: bytes, *, bodiless: bool, seconds: float) -> Response:
        answer = self._answer = Response(self, bodiless=bodiless)
        self._heard_at, self._seconds = self._loop.time(), seconds
        self._arm(self._heard_at + seconds)
        self.transport.write(request)
        while not answer.begun:
            await answer.wait()
        return answer

    def fail(self, error: OSError) -> None:
        """Ends the connection, and what is asked on it."""
        self.usable = False
        if self._timer is not None:
            self._timer.cancel()
        self.transport.abort()
        answer, self._answer = self._answer, None
        if answer is not None:
            stale = self._used and not answer.begun and isinstance(error, CLOSED)
            answer.fail(_Stale() if stale else error)
            self._ended(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        broken = error if isinstance(error, OSError) else ConnectionResetError("closed")
        self.fail(broken)

    def data_received(self, data: bytes) -> None:
        answer = self._answer
        if answer is None:
            self.fail(ConnectionError("an answer to nothing"))
            return
        self._heard_at = self._loop.time()
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self.fail(ConnectionError(f"not HTTP: {type(error).__name__}"))
            return
        if answer.whole and self._answer is answer:
            self._free(answer)

    def on_message_begin(self) -> None:
        if self._answer is None or self._answer.whole:
            raise ConnectionError("an answer to nothing")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._answer is not None:
            self._answer.headers.add(name, value)

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if self._answer is None:
            return
        if status < 200:
            self._answer.headers = Headers()
            return
        self._kept_alive = self._parser.should_keep_alive()
        self._answer.begin(status)

    def on_body(self, body: bytes) -> None:
        if self._answer is None or self._answer.whole:
            raise ConnectionError("a body after the end")
        self._answer.feed(body)

    def on_message_complete(self) -> None:
        if self._answer is not None and self._answer.begun:
            self._answer.end()

    def _free(self, answer: Response) -> None:
        self._answer, self._used = None, True
        self.idle_since = self._heard_at
        if answer.paused:
            self.transport.resume_reading()
        if answer.bodiless:
            # It waits for the body that the headers tell of.
            self._parser = httptools.HttpResponseParser(self)
        if not self._kept_alive or self.transport.get_write_buffer_size():
            self.usable = False
            self.transport.close()
        self._ended(self)

    def _arm(self, at: float) -> None:
        """One timer serves many requests: it looks when it is due, and is set again."""
        if self._timer is not None and self._timer.when() <= at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._answer is None:
            return
        if self._answer.paused:
            self._heard_at = self._loop.time()
        due = self._heard_at + self._seconds
        if due > self._loop.time():
            self._arm(due)
        else:
            self.fail(TimeoutError("silence"))


class Connections:
    """A pool for all servers of one event loop: at most `most` requests on their way."""

    def __init__(self, most: int) -> None:
        self._gate = asyncio.Semaphore(most)
        self._open: dict[_Connection, Origin] = {}
        self._idle: dict[Origin, list[_Connection]] = {}
        self._names: dict[tuple[str, int], _Name] = {}
        self._tls: ssl.SSLContext | None = None

    async def send(
        self, origin: Origin, request: bytes, *, bodiless: bool, seconds: float
    ) -> Response:
        """The answer, once its headers are here.

        Args:
            bodiless: it is one to HEAD, which has no body whatever its headers say.
            seconds: longest silence.
        Raises:
            OSError: no connection, or it broke. A kept one that the server has closed meanwhile
                is replaced.
        """
        while True:
            await self._gate.acquire()
            try:
                connection = self._take(origin) or await self._connect(origin)
            except BaseException:
                self._gate.release()
                raise
            try:
                return await connection.ask(request, bodiless=bodiless, seconds=seconds)
            except _Stale:
                continue

    async def close(self) -> None:
        for connection in list(self._open):
            connection.fail(ConnectionAbortedError("closed"))
        self._open.clear()
        await asyncio.sleep(0)

    def _take(self, origin: Origin) -> _Connection | None:
        """The one that was used last; those that were not for a while are closed by the server."""
        idle = self._idle.get(origin, [])
        oldest = asyncio.get_running_loop().time() - IDLE_SECONDS
        while idle:
            connection = idle.pop()
            if connection.usable and connection.idle_since > oldest:
                return connection
            self._drop(connection)
        return None

    def _ended(self, connection: _Connection) -> None:
        self._gate.release()
        if connection.usable:
            self._idle.setdefault(self._open[connection], []).append(connection)
        else:
            self._open.pop(connection, None)

    def _drop(self, connection: _Connection) -> None:
        self._open.pop(connection, None)
        connection.fail(ConnectionAbortedError("idle"))

    async def _connect(self, origin: Origin) -> _Connection:
        loop = asyncio.get_running_loop()
        how: dict[str, Any] = {}
        if origin.tls:
            self._tls = self._tls or ssl.create_default_context()
            how = {"ssl": self._tls, "server_hostname": origin.host}
        failed: OSError | None = None
        for address in await self._addresses(origin):
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    _, connection = await loop.create_connection(
                        lambda: _Connection(self._ended), *address, **how
                    )
            except OSError as error:
                failed = error
                continue
            self._open[connection] = origin
            return connection
        raise failed or OSError(f"{origin.host} has no address")

    async def _addresses(self, origin: Origin) -> list[tuple[str, int]]:
        """All of a name, each time another first: S3 spreads its load over them."""
        where = origin.host, origin.port
        now = asyncio.get_running_loop().time()
        name = self._names.get(where)
        if name is None or name.at + DNS_SECONDS < now:
            name = self._names[where] = _Name(now, asyncio.ensure_future(_look_up(*where)))
        try:
            found = await asyncio.shield(name.found)
        except OSError:
            self._names.pop(where, None)
            raise
        found.append(found.pop(0))
        return list(found)


class _Name(NamedTuple):
    at: float
    found: asyncio.Future[list[tuple[str, int]]]


async def _look_up(host: str, port: int) -> list[tuple[str, int]]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(str(address[0]), port) for *_, address in found]
