"""Networks that fail for real."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def stalling_proxy(port: int, *, after_bytes: int) -> Iterator[int]:
    """A TCP proxy to `port` that passes so many bytes of each answer, then goes silent."""
    listener = socket.create_server(("127.0.0.1", 0))
    opened: list[socket.socket] = [listener]

    def pump(source: socket.socket, target: socket.socket, limit: float) -> None:
        passed = 0
        with suppress(OSError):
            while passed < limit and (data := source.recv(4096)):
                target.sendall(data)
                passed += len(data)
            if passed < limit:
                target.shutdown(socket.SHUT_WR)

    def serve() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(("127.0.0.1", port))
                opened.extend((client, server))
                for pair in ((client, server, float("inf")), (server, client, after_bytes)):
                    threading.Thread(target=pump, args=pair, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)  # closing it alone leaves its thread in accept()
        for item in opened:
            item.close()


SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"


@contextmanager
def failing_http_proxy(port: int, *, failures: int, reset: bool) -> Iterator[int]:
    """An HTTP proxy to `port` whose first connections are answered 503, or reset."""
    listener = socket.create_server(("127.0.0.1", 0))
    opened: list[socket.socket] = [listener]

    def refuse(client: socket.socket) -> None:
        client.recv(65536)
        if not reset:
            head = b"HTTP/1.1 503 Slow Down\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
            client.sendall(head % len(SLOW_DOWN) + SLOW_DOWN)
        client.close()

    def pump(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def serve() -> None:
        left = failures
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                opened.append(client)
                if left:
                    left -= 1
                    threading.Thread(target=refuse, args=(client,), daemon=True).start()
                    continue
                server = socket.create_connection(("127.0.0.1", port))
                opened.append(server)
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=pump, args=pair, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)  # closing it alone leaves its thread in accept()
        for item in opened:
            item.close()
