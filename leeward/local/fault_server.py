"""moto's server with a door in front of it, at which calls fail as leeward/local/faults.py says."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import sys
import threading
from typing import Any

from werkzeug.serving import ThreadedWSGIServer

from leeward.local.faults import OUTSIDE, Fault, Faults
from leeward.local.gateway import Gateway
from leeward.local.iam import ACCOUNT
from leeward.local.wire import ApiCall, error_answer, read_call

RESET = struct.pack("ii", 1, 0)
HOLD_SECONDS = 0.2
# Where the one control plane of a global service is. Source: "AWS Fault Isolation Boundaries",
# appendix A and B.
HOMES = {
    "iam": "us-east-1",
    "route53": "us-east-1",
    "cloudfront": "us-east-1",
    "organizations": "us-east-1",
    "route53-recovery-control-config": "us-west-2",
}


class Server(ThreadedWSGIServer):
    """moto's server with faults. Connections that hang are kept by one thread for all."""

    def __init__(self, host: str, application: Any, faults: Faults) -> None:
        super().__init__(host, 0, application, Handler)
        self.faults = faults
        self._open: dict[int, socket.socket] = {}
        self._held: set[int] = set()
        self._holder = Holder(faults)

    def hold(self, connection: socket.socket, fault: Fault) -> None:
        """Keep it open, and do not end it with its request."""
        self._held.add(id(connection))
        self._holder.hold(connection, fault)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open[id(request)] = request
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.pop(id(request), None)
        if id(request) in self._held:
            self._held.discard(id(request))
            return
        super().shutdown_request(request)

    def server_close(self) -> None:
        self._holder.stop()
        super().server_close()
        for connection in list(self._open.values()):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class Handler(Gateway):
    server: Server

    def run_wsgi(self) -> None:
        stream = self.rfile
        fault = self._fault() if self.server.faults.active else None
        if fault is None:
            super().run_wsgi()
            self.rfile = stream  # after a body that `_fault` had to read
            return
        self.close_connection = True
        if fault.how == "hang":
            self.server.hold(self.connection, fault)
        elif fault.how == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self.connection.close()
        elif fault.how in ("error", "throttle"):
            self._answer(fault)

    def _fault(self) -> Fault | None:
        call, body = read_call(self.command, self.path, self.headers, self.rfile)
        if body is not None:
            self.rfile = body
        if call.key_id == OUTSIDE:
            return None
        self._call = in_own_region(call)
        return self.server.faults.meeting(self._call)

    def _answer(self, fault: Fault) -> None:
        self._discard_body()
        answer = error_answer(self._call, throttled=fault.how == "throttle")
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def _discard_body(self) -> None:
        """Unread bytes at the close would reset the connection, and the answer with it."""
        if "100-continue" in self.headers.get("Expect", ""):
            return  # the sender waits to be asked for it
        left = int(self.headers.get("Content-Length") or 0)
        while left > 0 and (read := self.rfile.read(min(left, 1 << 20))):
            left -= len(read)


class Holder:
    """Open connections that say nothing, until their caller hangs up or their fault has ended."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._arriving: list[tuple[socket.socket, Fault]] = []
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def hold(self, connection: socket.socket, fault: Fault) -> None:
        with self._lock:
            self._arriving.append((connection, fault))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, daemon=True)
                self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread:
            self._thread.join()

    def _run(self) -> None:
        with selectors.DefaultSelector() as held:
            while not self._stopping.is_set():
                self._take_in(held)
                for key, _ in held.select(HOLD_SECONDS):
                    self._drain(held, key)
                self._let_go(held)
                if not held.get_map():
                    self._stopping.wait(HOLD_SECONDS)
            for key in list(held.get_map().values()):
                _end(held, key)

    def _take_in(self, held: selectors.BaseSelector) -> None:
        with self._lock:
            arriving, self._arriving = self._arriving, []
        for connection, fault in arriving:
            connection.setblocking(False)
            held.register(connection, selectors.EVENT_READ, fault)

    def _drain(self, held: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
        """Take what the caller still sends; end when it has hung up."""
        connection: Any = key.fileobj
        try:
            if connection.recv(1 << 16):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        _end(held, key)

    def _let_go(self, held: selectors.BaseSelector) -> None:
        active = self._faults.active
        for key in [it for it in held.get_map().values() if it.data not in active]:
            _end(held, key)


def _end(held: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
    held.unregister(key.fileobj)
    with contextlib.suppress(OSError):
        key.fileobj.close()  # type: ignore[union-attr]


def in_own_region(call: ApiCall) -> ApiCall:
    """moto answers for everything in any region; in AWS what has one home is there alone."""
    if call.service in HOMES:
        return call.in_region(HOMES[call.service])
    if call.service != "s3" or "moto.s3.models" not in sys.modules:
        return call
    from moto.s3.models import s3_backends

    found = s3_backends[ACCOUNT]["aws"].buckets.get(call.resource)
    return call if found is None else call.in_region(found.region_name)
