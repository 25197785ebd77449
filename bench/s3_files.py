"""An S3 server that sends the files of a folder with sendfile(2): hardly any processor of its own.

    python -m bench.s3_files PORT FOLDER

It stands for S3 where a server on this machine would take the cores from its clients. Buckets are
folders of FOLDER. Listing, HEAD, GET with a range, PUT and DELETE; no signature is compared.
"""

from __future__ import annotations

import hashlib
import os
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer
from urllib.parse import parse_qs, quote, unquote, urlsplit

import httptools

FOLDER = Path(sys.argv[2]) if len(sys.argv) > 2 else Path()
RECEIVED_BYTES = 64 << 10
REASONS = {200: "OK", 204: "No Content", 206: "Partial Content", 404: "Not Found"}
NO_SUCH_KEY = b"<Error><Code>NoSuchKey</Code></Error>"


@dataclass
class _Request:
    """What the parser calls while it reads one request. Names of headers are in lower case."""

    url: bytes = b""
    headers: dict[bytes, str] = field(default_factory=dict)
    body: list[bytes] = field(default_factory=list)
    whole: bool = False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.lower()] = value.decode()

    def on_body(self, body: bytes) -> None:
        self.body.append(body)

    def on_message_complete(self) -> None:
        self.whole = True


class _Handler(BaseRequestHandler):
    """One connection: one request after the other, each answered before the next is read."""

    request: socket.socket

    def handle(self) -> None:
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            asked = _Request()
            parser = httptools.HttpRequestParser(asked)
            while not asked.whole:
                try:
                    data = self.request.recv(RECEIVED_BYTES)
                except ConnectionError:
                    return
                if not data:
                    return
                parser.feed_data(data)
                if asked.headers.pop(b"expect", ""):
                    self.request.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            try:
                self._answer(parser.get_method().decode(), asked)
            except ConnectionError:
                return

    def _answer(self, method: str, asked: _Request) -> None:
        parts = urlsplit(asked.url.decode())
        path = FOLDER / unquote(parts.path).strip("/")
        if method == "PUT":
            self._put(path, asked)
        elif method == "DELETE":
            path.unlink(missing_ok=True)
            self._reply(204)
        elif path.parent == FOLDER:
            query = {name: found[0] for name, found in parse_qs(parts.query).items()}
            self._reply(200, _listing(path, query).encode(), bodiless=method == "HEAD")
        elif path.is_file():
            self._send_file(path, asked.headers.get(b"range", ""), bodiless=method == "HEAD")
        else:
            self._reply(404, NO_SUCH_KEY, bodiless=method == "HEAD")

    def _put(self, path: Path, asked: _Request) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(asked.body))
        sent = asked.headers.get(b"x-amz-checksum-sha256", "")
        self._reply(200, b"", {"ETag": _etag(path), "x-amz-checksum-sha256": sent})

    def _send_file(self, path: Path, span: str, *, bodiless: bool) -> None:
        """The head goes with the first bytes of the body."""
        with path.open("rb") as file:
            found = os.stat(file.fileno())
            start, end = 0, found.st_size
            headers = {
                "Last-Modified": formatdate(found.st_mtime, usegmt=True),
                "ETag": _etag(path),
            }
            if span:
                first, _, last = span.removeprefix("bytes=").partition("-")
                start, end = int(first), min(int(last or end - 1) + 1, end)
                headers["Content-Range"] = f"bytes {start}-{end - 1}/{found.st_size}"
            head = _head(206 if span else 200, end - start, headers)
            more = 0 if bodiless or start == end else socket.MSG_MORE
            self.request.sendall(head, more)
            while start < end and not bodiless:
                start += os.sendfile(self.request.fileno(), file.fileno(), start, end - start)

    def _reply(
        self,
        status: int,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        *,
        bodiless: bool = False,
    ) -> None:
        head = _head(status, len(body), headers or {})
        self.request.sendall(head if bodiless else head + body)


def _head(status: int, length: int, headers: dict[str, str]) -> bytes:
    told = {"Content-Length": str(length), **headers}
    lines = (f"{name}: {value}\r\n" for name, value in told.items())
    return f"HTTP/1.1 {status} {REASONS[status]}\r\n{''.join(lines)}\r\n".encode()


class _Server(ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128


def _listing(bucket: Path, query: dict[str, str]) -> str:
    """All of it in one page, which is more than S3 gives."""
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    rows: dict[str, str] = {}
    for key in sorted(_keys(bucket)):
        if not key.startswith(prefix):
            continue
        head, found, _ = key[len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
        if found:
            name = quote(prefix + head + delimiter)
            rows[name] = f"<CommonPrefixes><Prefix>{name}</Prefix></CommonPrefixes>"
        else:
            rows[key] = _row(bucket / key, key)
    return (
        f"<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>"
        f"{''.join(rows.values())}</ListBucketResult>"
    )


def _keys(bucket: Path) -> Iterator[str]:
    return (str(path.relative_to(bucket)) for path in bucket.rglob("*") if path.is_file())


def _row(path: Path, key: str) -> str:
    found = path.stat()
    at = datetime.fromtimestamp(found.st_mtime, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    return (
        f"<Contents><Key>{quote(key)}</Key><LastModified>{at}</LastModified>"
        f"<ETag>&quot;{_etag(path)[1:-1]}&quot;</ETag><Size>{found.st_size}</Size></Contents>"
    )


def _etag(path: Path) -> str:
    found = path.stat()
    return f'"{hashlib.md5(f"{found.st_size} {found.st_mtime_ns}".encode()).hexdigest()}-1"'


if __name__ == "__main__":
    _Server(("127.0.0.1", int(sys.argv[1])), _Handler).serve_forever()
