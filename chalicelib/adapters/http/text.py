"""What goes over a connection of HTTP/1.1: addresses, requests, headers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import urlsplit

from chalicelib.errors import BadInput

# S3 closes a connection that nobody uses after some 20 s.
IDLE_SECONDS = 15.0


class Origin(NamedTuple):
    host: str
    port: int
    tls: bool
    authority: str


@lru_cache(maxsize=64)
def origin_of(url: str) -> Origin:
    """Raises BadInput (code "bad-endpoint") for what is no http:// or https:// address."""
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError:
        host = port = None
    if not host or parts.scheme not in ("http", "https"):
        raise BadInput(
            f"expected the address of an S3, found {url!r}",
            code="bad-endpoint",
            hint="Give it as https://host or http://host:port.",
        )
    tls = parts.scheme == "https"
    return Origin(host, port or (443 if tls else 80), tls, parts.netloc.rpartition("@")[2])


@lru_cache(maxsize=4096)
def parse_date(text: str) -> datetime:
    """A header's date; naive when it tells no zone. What was written together has one time.

    Raises ValueError.
    """
    from email.utils import parsedate_to_datetime

    return parsedate_to_datetime(text)


class Headers(Mapping[str, str]):
    """Found by name in any case; what a server sends twice is joined by ", "."""

    def __init__(self) -> None:
        self._values: dict[bytes, bytes] = {}

    def add(self, name: bytes, value: bytes) -> None:
        """Most are never asked for: they are decoded when they are."""
        key = name.lower()
        if key in self._values:
            value = self._values[key] + b", " + value
        self._values[key] = value

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower().encode()].decode("utf-8", "surrogateescape")

    def __iter__(self) -> Iterator[str]:
        return (name.decode("latin-1") for name in self._values)

    def __len__(self) -> int:
        return len(self._values)


def render_request(
    method: str, target: str, headers: Mapping[str, str], body: bytes = b""
) -> bytes:
    """Raises as `render_head`."""
    return render_head(method, target, headers, len(body)) + body


def render_head(method: str, target: str, headers: Mapping[str, str], body_bytes: int) -> bytes:
    """What goes before a body of so many bytes.

    Raises BadInput (code "header-broken") for a value that would begin another header.
    """
    lines = [f"{method} {target} HTTP/1.1", *(f"{n}: {v}" for n, v in headers.items())]
    if body_bytes or method not in ("GET", "HEAD"):
        lines.append(f"Content-Length: {body_bytes}")
    head = "\r\n".join(lines)
    if head.count("\n") != len(lines) - 1 or head.count("\r") != len(lines) - 1 or "\0" in head:
        raise BadInput(
            "expected headers of one line each, found a line break in one",
            code="header-broken",
            hint="S3 has no such metadata; look where the value came from.",
        )
    return f"{head}\r\n\r\n".encode()
