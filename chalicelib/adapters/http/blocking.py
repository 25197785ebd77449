"""HTTP/1.1 over one connection that blocks, its heads parsed by llhttp, its bodies not at all.

For threads that each read an answer to its end: a body of a told length goes from the socket into
the caller's buffer. http.client takes three times the processor time for each request (measured:
150 us of 190). Whatever breaks is an OSError, after silence a TimeoutError.
"""

from __future__ import annotations

import select
import socket
import ssl
from base64 import b64encode
from collections import deque
from urllib.parse import unquote, urlsplit

import httptools

from chalicelib.adapters.http.text import Headers, Origin, origin_of

CONNECT_SECONDS = 5.0
# A socket's timeout counts for all that one call sends.
SENT_BYTES = 1 << 20
# Shorter ones are sent with their head.
SMALL_BODY_BYTES = 64 << 10
# A small object comes with its head in one call.
RECEIVED_BYTES = 16 << 10
# Answers that have no body, whatever their headers say.
BODILESS = (204, 304)
FRAMED = ("Content-Length", "Transfer-Encoding")


class Connection:
    """One request at a time; used again when its answer was `whole` and it is still `usable`."""

    def __init__(
        self, origin: Origin, *, seconds: float, tls: ssl.SSLContext | None, proxy: str = ""
    ) -> None:
        """Raises OSError.

        Args:
            seconds: longest silence.
            proxy: address of one that passes on what it cannot read; over TLS alone.
        """
        nearest = origin_of(proxy) if proxy else origin
        address = nearest.host, nearest.port
        plain = socket.create_connection(address, min(CONNECT_SECONDS, seconds))
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if proxy:
                _pass_through(plain, origin, proxy)
            self.socket = tls.wrap_socket(plain, server_hostname=origin.host) if tls else plain
        except BaseException:
            plain.close()
            raise
        self.socket.settimeout(seconds)
        self.origin, self._usual, self._seconds = origin, seconds, seconds
        self.usable = True

    @property
    def quiet(self) -> bool:
        """Nothing came while nobody used it: neither its end nor rubbish."""
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        return not poll.poll(0)

    def ask(
        self,
        head: bytes,
        body: bytes | bytearray | memoryview = b"",
        *,
        bodiless: bool = False,
        seconds: float = 0.0,
    ) -> Answer:
        """An answer whose headers are here. Raises OSError.

        A server may refuse in the middle of a body and say why before it closes.

        Args:
            bodiless: it is one to HEAD.
            seconds: longest silence of this one, 0: the connection's own.
        """
        self._wait_for(seconds or self._usual)
        broken = self._send(head, body)
        answer = Answer(self, bodiless=bodiless)
        answer.begin()
        if broken is not None:
            self.usable = False
            if answer.status < 400:
                raise broken
        return answer

    def close(self) -> None:
        self.usable = False
        self.socket.close()

    def _wait_for(self, seconds: float) -> None:
        """Setting it takes a call of the kernel."""
        if seconds != self._seconds:
            self.socket.settimeout(seconds)
            self._seconds = seconds

    def _send(self, head: bytes, body: bytes | bytearray | memoryview) -> ConnectionError | None:
        """What broke it in the middle of a body."""
        if len(body) <= SMALL_BODY_BYTES:
            self.socket.sendall(head + body)
            return None
        self.socket.sendall(head)
        try:
            with memoryview(body) as whole:
                for start in range(0, len(whole), SENT_BYTES):
                    self.socket.sendall(whole[start : start + SENT_BYTES])
        except ConnectionError as error:
            return error
        return None


def _pass_through(plain: socket.socket, origin: Origin, proxy: str) -> None:
    """Source: RFC 9110, "CONNECT". The proxy is silent after its head until it is spoken to."""
    where, parts = f"{origin.host}:{origin.port}", urlsplit(proxy)
    headers = {"Host": where}
    if parts.username is not None:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Proxy-Authorization"] = f"Basic {b64encode(login.encode()).decode()}"
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    plain.sendall(f"CONNECT {where} HTTP/1.1\r\n{lines}\r\n".encode())
    head = b""
    while b"\r\n\r\n" not in head:
        data = plain.recv(RECEIVED_BYTES)
        if not data or len(head) > RECEIVED_BYTES:
            raise ConnectionError("no answer of the proxy")
        head += data
    if head.split(None, 2)[1:2] != [b"200"]:
        raise ConnectionRefusedError("the proxy did not let it through")


class Answer:
    """Status, headers, and a body that is read piece by piece. The parser calls the methods on_*.

    `_left`: bytes of the body that are still on the wire, -1 where only the parser knows its end.
    """

    def __init__(self, connection: Connection, *, bodiless: bool) -> None:
        self.status = 0
        self.headers = Headers()
        self._connection, self._bodiless = connection, bodiless
        self._parser = httptools.HttpResponseParser(self)
        self._pieces: deque[memoryview] = deque()
        self._begun = self._ended = False
        self._left = -1
        self._failure: OSError | None = None

    @property
    def whole(self) -> bool:
        return self._left == 0 and not self._pieces

    def read(self, size_bytes: int) -> bytes:
        """At most so many, b"" at the end. Raises OSError when it breaks."""
        buffer = memoryview(bytearray(size_bytes))
        return bytes(buffer[: self.read_into(buffer)])

    def read_into(self, buffer: memoryview) -> int:
        """How much of it was filled: less at the end, or when it breaks, which the next call
        raises."""
        filled = 0
        if self._failure is not None:
            raise self._failure
        while filled < len(buffer) and not self.whole:
            try:
                filled += self._fill(buffer[filled:])
            except OSError as error:
                if not filled:
                    raise
                self._failure = error
                break
        return filled

    def read_all(self) -> bytes:
        """A body that fits into memory. Raises OSError when it breaks."""
        pieces = []
        while not self.whole:
            here = sum(map(len, self._pieces))
            pieces.append(self.read(self._left + here if self._left >= 0 else RECEIVED_BYTES))
        return b"".join(pieces)

    def begin(self) -> None:
        while not self._begun:
            self._feed()
        if self._bodiless or self.status in BODILESS or self._ended:
            self._left = 0
        elif "Content-Length" in self.headers and "Transfer-Encoding" not in self.headers:
            here = sum(map(len, self._pieces))
            self._left = int(self.headers["Content-Length"]) - here

    def on_message_begin(self) -> None:
        if self._ended or (self._begun and self._bodiless):
            raise ConnectionError("an answer to nothing")

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.add(name, value)

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        if self.status < 200:
            self.headers = Headers()
            return
        self._begun = True
        self._connection.usable = self._parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        self._pieces.append(memoryview(body))

    def on_message_complete(self) -> None:
        self._ended = self._begun

    def _fill(self, buffer: memoryview) -> int:
        if self._pieces:
            return self._hand_on(buffer)
        if self._left < 0:
            self._feed()
            self._left = 0 if self._ended else -1
            return 0
        found = self._connection.socket.recv_into(buffer, min(len(buffer), self._left))
        if not found:
            raise ConnectionResetError("closed in the middle of a body")
        self._left -= found
        return found

    def _hand_on(self, buffer: memoryview) -> int:
        piece = self._pieces.popleft()
        size = min(len(piece), len(buffer))
        buffer[:size] = piece[:size]
        if size < len(piece):
            self._pieces.appendleft(piece[size:])
        return size

    def _feed(self) -> None:
        """One call of the socket through the parser. Where no length is told, the end is one."""
        data = self._connection.socket.recv(RECEIVED_BYTES)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            raise ConnectionError(f"not HTTP: {type(error).__name__}") from error
        if data:
            return
        if not self._begun or any(name in self.headers for name in FRAMED):
            raise ConnectionResetError("closed in the middle of an answer")
        self._ended, self._connection.usable = True, False
