"""A service's one address: each connection is led to the next pod that is ready."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable
from contextlib import suppress

ACCEPT_SECONDS = 0.2
CONNECT_SECONDS = 2.0


class Forward:
    """Listens from the start until `close`. `ports`: those of the pods that are ready now."""

    def __init__(self, port: int, ports: Callable[[], list[int]]) -> None:
        self._listening = socket.create_server(("127.0.0.1", port))
        self._listening.settimeout(ACCEPT_SECONDS)
        self.port = int(self._listening.getsockname()[1])
        self._ports = ports
        self._turn = 0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._thread.join()
        self._listening.close()

    def _serve(self) -> None:
        while not self._closing.is_set():
            with suppress(TimeoutError):
                connection, _ = self._listening.accept()
                threading.Thread(target=self._lead, args=(connection,), daemon=True).start()

    def _lead(self, outside: socket.socket) -> None:
        """Nobody is ready: the connection is closed at once, as it is refused in a cluster."""
        ports = self._ports()
        self._turn += 1
        with suppress(OSError), outside:
            if ports:
                address = ("127.0.0.1", ports[self._turn % len(ports)])
                with socket.create_connection(address, CONNECT_SECONDS) as inside:
                    self._pump(outside, inside)

    def _pump(self, outside: socket.socket, inside: socket.socket) -> None:
        other = {outside: inside, inside: outside}
        while not self._closing.is_set():
            for source in select.select([outside, inside], [], [], ACCEPT_SECONDS)[0]:
                data = source.recv(1 << 16)
                if not data:
                    return
                other[source].sendall(data)
