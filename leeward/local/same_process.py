"""Calls of this process's own clients, answered in the thread that makes them: no connection.

A deployment is 450 calls, and between botocore and the application that answers each lay a socket,
another thread, and the reading of headers twice. A call goes over the wire as ever while any fault
is active (faults.py), when the server has ended, and when its body is a stream of anything but
bytes in memory, which botocore makes of each object. What fails inside the application is raised to
the caller, who over the wire gets 500.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from email.utils import formatdate
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

from botocore.awsrequest import AWSPreparedRequest, AWSResponse

from leeward.local.faults import Faults
from leeward.local.gateway import WITHOUT_BODY, Headers

OWN_ADDRESS = "127.0.0.1"


class SameProcess:
    """A handler of botocore's event "before-send", until `end`."""

    def __init__(self, application: Any, faults: Faults) -> None:
        self._application = application
        self._faults = faults
        self._ended = False

    def __call__(self, request: AWSPreparedRequest, **_: Any) -> AWSResponse | None:
        body = _in_memory(request.body)
        if self._ended or self._faults.active or not _is_plain(request, body):
            return None
        return answer(self._application, request, bytes(body))

    def end(self) -> None:
        self._ended = True


def _in_memory(body: Any) -> Any:
    """The bytes that would be sent, where they are in memory."""
    if isinstance(body, io.BytesIO):
        start = body.tell()
        body, stream = body.read(), body
        stream.seek(start)
    if body is None:
        return b""
    return body.encode() if isinstance(body, str) else body


def _is_plain(request: AWSPreparedRequest, body: Any) -> bool:
    in_chunks = "Transfer-Encoding" in request.headers
    return (
        isinstance(body, bytes | bytearray)
        and not in_chunks
        and "_" not in "".join(request.headers)
    )


def answer(
    application: Callable[..., Any], request: AWSPreparedRequest, body: bytes
) -> AWSResponse:
    told: list[tuple[str, Headers]] = []

    def start(status: str, headers: Headers, _: Any = None) -> None:
        told.append((status, headers))

    parts = application(environ_of(request, body), start)
    try:
        whole = b"".join(parts)
    finally:
        if hasattr(parts, "close"):
            parts.close()
    status, headers = told[-1]
    if not any(name.lower() == "content-length" for name, _ in headers):
        headers = [*headers, ("Content-Length", str(len(whole)))]
    if request.method == "HEAD" or status.startswith(WITHOUT_BODY):
        whole = b""
    dated = [("Date", formatdate(usegmt=True)), *headers]
    return AWSResponse(request.url, int(status.split()[0]), dated, Raw(whole))


def environ_of(request: AWSPreparedRequest, body: bytes) -> dict[str, Any]:
    """As werkzeug's server makes it of the same request."""
    url = urlsplit(request.url)
    raw = f"{url.path}?{url.query}" if url.query else url.path
    environ: dict[str, Any] = {
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(url.path).decode("latin-1"),
        "QUERY_STRING": url.query,
        "REQUEST_URI": raw,
        "RAW_URI": raw,
        "REMOTE_ADDR": OWN_ADDRESS,
        "SERVER_NAME": url.hostname,
        "SERVER_PORT": str(url.port),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": url.netloc,
    }
    for name, value in request.headers.items():
        key = name.upper().replace("-", "_")
        text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
        environ[key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"] = text
    return environ


class Raw(io.BytesIO):
    """A body as botocore reads it from urllib3's answer."""

    def stream(self, *_: Any, **__: Any) -> Iterator[bytes]:
        yield self.read()
