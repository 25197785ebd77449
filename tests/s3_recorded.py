"""Which operations of S3 were asked for, as a proxy in front of it sees them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import parse_qs, urlsplit

from tests.http_faults import FaultProxy, fault_proxy


@contextmanager
def recording_proxy(port: int) -> Iterator[tuple[FaultProxy, list[str]]]:
    """Everything goes through it, and the list says what did."""
    asked: list[str] = []

    def note(method: str, path: str, size: int) -> bool:
        asked.append(operation_of(method, path, size))
        return False

    with fault_proxy(port, "503", when=note) as proxy:
        yield proxy, asked


def operation_of(method: str, path: str, size: int) -> str:
    """Of those about objects: a copy is a PUT without a body."""
    query = parse_qs(urlsplit(path).query, keep_blank_values=True)
    if method == "PUT":
        kind = "UploadPart" if "partNumber" in query else "PutObject"
        return kind if size else {"UploadPart": "UploadPartCopy", "PutObject": "CopyObject"}[kind]
    if method == "POST":
        return "CreateMultipartUpload" if "uploads" in query else "CompleteMultipartUpload"
    if method == "GET" and urlsplit(path).path.count("/") == 1:
        return "ListMultipartUploads" if "uploads" in query else "ListObjectsV2"
    if method == "GET" and "uploadId" in query:
        return "ListParts"
    return {"GET": "GetObject", "HEAD": "HeadObject", "DELETE": "DeleteObject"}[method]
