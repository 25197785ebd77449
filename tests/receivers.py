"""Servers that take messages on loopback: they accept, refuse, fail, hang, and keep what came."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs


@dataclass
class Received:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def form(self) -> dict[str, str]:
        if self.headers.get("content-type", "").startswith("application/json"):
            return dict(self.json)
        return {name: values[0] for name, values in parse_qs(self.body.decode()).items()}


@dataclass
class Receiver:
    """`mood`: "ok", an HTTP status, a Slack error's name, "hang", "drip" or "rude"."""

    url: str
    got: list[Received] = field(default_factory=list)
    mood: str = "ok"
    moods: dict[str, str] = field(default_factory=dict)


@contextmanager
def http_receiver() -> Iterator[Receiver]:
    stop = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            receiver.got.append(Received(self.path, headers, body))
            mood = receiver.moods.get(self.path, receiver.mood)
            if mood == "hang":
                stop.wait(30)
                return
            if mood == "rude":
                self.connection.close()
                return
            if mood == "drip":
                self._drip()
                return
            status = int(mood) if mood.isdecimal() else 200
            self._answer(status, mood)

        def _answer(self, status: int, mood: str) -> None:
            if mood.isdecimal() or mood == "ok":
                told = {"ok": status < 300, "ts": "1700000000.1", "dedup_key": "key-of-theirs"}
                told |= {} if status < 300 else {"error": "no such thing"}
            else:
                told = {"ok": False, "error": mood}
            data = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            if 300 <= status < 400:
                self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _drip(self) -> None:
            """A byte now and then: no single read takes long, all of it never ends."""
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            for _ in range(200):
                if stop.wait(0.1):
                    return
                try:
                    self.wfile.write(b"x")
                    self.wfile.flush()
                except OSError:
                    return

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver = Receiver(f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield receiver
    finally:
        stop.set()
        server.shutdown()
        server.server_close()


def closed_port() -> int:
    """Nobody listens there."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Mailbox:
    """`refuses`: the answer to a recipient, "" to take it. `hangs`: seconds before any answer,
    unless it is `released`."""

    port: int = 0
    mails: list[bytes] = field(default_factory=list)
    refuses: str = ""
    hangs: float = 0.0
    released: threading.Event = field(default_factory=threading.Event)


@contextmanager
def mail_server() -> Iterator[Mailbox]:
    from aiosmtpd.controller import Controller

    box = Mailbox()

    class Handler:
        async def handle_RCPT(
            self, server: Any, session: Any, envelope: Any, address: str, options: Any
        ) -> str:
            if box.hangs:
                box.released.wait(box.hangs)
            if box.refuses:
                return box.refuses
            envelope.rcpt_tos.append(address)
            return "250 OK"

        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
            box.mails.append(envelope.content)
            return "250 taken"

    controller = Controller(Handler(), hostname="127.0.0.1", port=closed_port())
    controller.start()
    box.port = controller.port
    try:
        yield box
    finally:
        controller.stop()
