"""An S3 server that answers what it is told to, byte by byte, to test what a client makes of it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import BinaryIO

RESET = b""
"""No answer: the connection is closed."""
SILENCE = b"silence"
"""No answer: the connection stays open."""


@dataclass
class Scripted:
    """`asked` are the heads of the requests, in order; each connection is counted."""

    url: str
    asked: list[str] = field(default_factory=list)
    connections: int = 0


def answer(status: int, body: bytes = b"", *headers: str, length: int = -1) -> bytes:
    """`length`: what Content-Length claims, when it is not that of the body."""
    claimed = len(body) if length < 0 else length
    lines = [f"HTTP/1.1 {status} Any", f"Content-Length: {claimed}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def error(status: int, code: str, *headers: str) -> bytes:
    return answer(status, f"<Error><Code>{code}</Code></Error>".encode(), *headers)


@contextmanager
def scripted_server(answers: Sequence[bytes]) -> Iterator[Scripted]:
    """Request n gets answer n; the last one is given again and again.

    A connection ends after an answer that says `Connection: close` or is shorter than it claims.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    opened: list[socket.socket] = [listener]
    script = Scripted(f"http://127.0.0.1:{listener.getsockname()[1]}")
    lock = threading.Lock()

    def following(head: str) -> bytes:
        with lock:
            script.asked.append(head)
            return answers[min(len(script.asked), len(answers)) - 1]

    def talk(client: socket.socket) -> None:
        with suppress(OSError), client, client.makefile("rb") as requests:
            while head := _read_request(requests):
                said = following(head)
                if said == SILENCE:
                    continue
                client.sendall(said)
                if said == RESET or b"Connection: close" in said or _is_short(said):
                    client.shutdown(socket.SHUT_RDWR)
                    return

    def serve() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                script.connections += 1
                opened.append(client)
                threading.Thread(target=talk, args=(client,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield script
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)  # closing it alone leaves its thread in accept()
        for item in opened:
            item.close()


def _read_request(requests: BinaryIO) -> str:
    lines: list[str] = []
    length = 0
    while line := requests.readline().decode():
        if line == "\r\n":
            requests.read(length)
            return "\n".join(lines)
        lines.append(line.rstrip("\r\n"))
        if line.lower().startswith("content-length:"):
            length = int(line.partition(":")[2])
    return ""


def _is_short(said: bytes) -> bool:
    head, _, body = said.partition(b"\r\n\r\n")
    for line in head.split(b"\r\n"):
        if line.startswith(b"Content-Length:"):
            return int(line.partition(b":")[2]) > len(body)
    return False
