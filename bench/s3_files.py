"""An S3 server that sends the files of a folder with sendfile(2): hardly any processor of its own.

    python -m bench.s3_files PORT FOLDER

It stands for S3 where a server on this machine would take the cores from its clients. Buckets are
folders of FOLDER. Listing, HEAD, GET with a range, PUT and DELETE; no signature is compared.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit

FOLDER = Path(sys.argv[2]) if len(sys.argv) > 2 else Path()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        path, query = self._asked()
        if path.parent == FOLDER:
            self._reply(200, _listing(path, query).encode())
        elif path.is_file():
            self._send_file(path)
        else:
            self._reply(404, b"<Error><Code>NoSuchKey</Code></Error>")

    do_HEAD = do_GET

    def do_PUT(self) -> None:
        path, _ = self._asked()
        body = self.rfile.read(int(self.headers["Content-Length"]))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
        sent = self.headers.get("x-amz-checksum-sha256", "")
        self._reply(200, b"", {"ETag": _etag(path), "x-amz-checksum-sha256": sent})

    def do_DELETE(self) -> None:
        self._asked()[0].unlink(missing_ok=True)
        self._reply(204, b"")

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def _asked(self) -> tuple[Path, dict[str, str]]:
        parts = urlsplit(self.path)
        query = {name: found[0] for name, found in parse_qs(parts.query).items()}
        return FOLDER / unquote(parts.path).strip("/"), query

    def _send_file(self, path: Path) -> None:
        size = path.stat().st_size
        start, end = 0, size
        if span := self.headers.get("Range"):
            first, _, last = span.removeprefix("bytes=").partition("-")
            start, end = int(first), int(last or size - 1) + 1
        self.send_response(206 if span else 200)
        self.send_header("Content-Length", str(end - start))
        self.send_header("Last-Modified", formatdate(path.stat().st_mtime, usegmt=True))
        self.send_header("ETag", _etag(path))
        if span:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.flush()
        with path.open("rb") as file:
            while start < end:
                start += os.sendfile(self.connection.fileno(), file.fileno(), start, end - start)

    def _reply(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


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
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), _Handler)
    server.daemon_threads = True
    server.serve_forever()
