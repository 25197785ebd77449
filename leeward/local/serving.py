"""Servers of this process, each in a thread that sleeps until somebody connects.

`serve_forever` looks twenty times a second whether it shall end, if an end is not to take long; a
cloud has a dozen servers.
"""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Callable
from socketserver import BaseServer


def serve(server: BaseServer) -> Callable[[], None]:
    """Serve from now on; returns what ends it and closes the server's socket. Safe to repeat."""
    woken, waker = socket.socketpair()
    thread = threading.Thread(target=_until_woken, args=(server, woken), daemon=True)
    thread.start()

    def stop() -> None:
        waker.close()
        thread.join()
        server.server_close()

    return stop


def _until_woken(server: BaseServer, woken: socket.socket) -> None:
    server.timeout = 0.0  # who connected and is gone again must not be waited for
    with woken, selectors.DefaultSelector() as selector:
        selector.register(server.fileno(), selectors.EVENT_READ)
        selector.register(woken, selectors.EVENT_READ)
        while woken not in {key.fileobj for key, _ in selector.select()}:
            server.handle_request()
