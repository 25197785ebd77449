"""Objects below one prefix of an Azure container, as block blobs, over its REST API.

A large object is sent as blocks by a few threads while it is produced, and appears when their list
is committed. Azure refuses a block whose MD5 is not the one sent along; the size of the whole is
compared with what it says it holds. The SHA-256 is kept as metadata, the MD5 as Content-MD5.
Rights needed: Storage Blob Data Contributor on the container.
"""

from __future__ import annotations

import hashlib
import secrets
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from email.utils import parsedate_to_datetime
from urllib.parse import quote, urlencode
from xml.etree import ElementTree

from chalicelib.adapters.http.service import Answer, HttpService, Request
from chalicelib.adapters.read_ahead import MIB, RANGE_BYTES, read_ranges
from chalicelib.adapters.refusals import (
    access_denied,
    changed_meanwhile,
    exists,
    missing_bucket,
    missing_object,
    not_as_sent,
    unexpected,
    unreadable,
)
from chalicelib.adapters.sealing.key_names import KeyNames
from chalicelib.errors import LeewardError, Unavailable
from chalicelib.plan.records import StoredObject
from chalicelib.ports import Listed, StoredFacts

BLOCK_BYTES = 8 * MIB
BLOCK_THREADS = 3
# Azure takes 50,000 blocks of up to 4,000 MiB; doubling every 8,000 reaches 3.9 TiB.
BLOCKS_PER_SIZE = 8000
PAGE_ROWS = 5000


class AzureObjectStore:
    """The port ObjectStore on Azure Blob Storage. `prefix` is empty or ends with a slash."""

    encryption = "the account's own default (Azure encrypts with AES-256)"

    def __init__(
        self,
        service: tuple[HttpService, str],
        container: str,
        prefix: str = "",
        *,
        block_bytes: int = BLOCK_BYTES,
        range_bytes: int = RANGE_BYTES,
        page_rows: int = PAGE_ROWS,
    ) -> None:
        self._service, url = service
        self._container_url = f"{url}/{container}"
        self._names = KeyNames(prefix)
        self._block_bytes = block_bytes
        self._range_bytes = range_bytes
        self._page_rows = page_rows

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> StoredObject:
        digests = _Digests()
        digests.update(data)
        headers = digests.headers() | {"x-ms-blob-type": "BlockBlob", "Content-MD5": _md5(data)}
        if if_absent:
            headers["If-None-Match"] = "*"
        answer = self._service.call(Request("PUT", self._blob(key), headers, data))
        lost = answer.status in (409, 412) and answer.attempts > 1
        if not (lost and self._wrote(key, headers["x-ms-meta-write"])):
            self._check(key, answer, 201)
            self._keep_if_equal(key, answer, headers["Content-MD5"])
        return digests.stored(key)

    @contextmanager
    def open_writer(self, key: str) -> Iterator[_BlockWriter]:
        writer = _BlockWriter(self, key)
        try:
            yield writer
        finally:
            writer.close()

    def get(self, key: str) -> bytes:
        return self._check(key, self._service.call(Request("GET", self._blob(key))), 200).body

    def read(self, key: str) -> Iterator[bytes]:
        found = self._head(key)
        request = Request("GET", self._blob(key), {"If-Match": found.headers["ETag"]})

        def fetch(start: int, end: int) -> bytearray:
            answer, data = self._service.read(request, start, end)
            if answer.status in (404, 412):
                raise changed_meanwhile(key)
            self._check(key, answer, 206)
            return data

        size = int(found.headers["Content-Length"])
        yield from read_ranges(size, fetch, range_bytes=self._range_bytes)

    def list(self, prefix: str = "") -> Iterator[Listed]:
        return self._names.merged(prefix, self._rows)

    def delete(self, key: str) -> None:
        answer = self._service.call(Request("DELETE", self._blob(key)))
        if _code(answer) != "BlobNotFound":
            self._check(key, answer, 202)

    def facts(self, key: str) -> StoredFacts:
        headers = self._head(key).headers
        until = headers.get("x-ms-immutability-policy-until-date")
        return StoredFacts(
            size_bytes=int(headers["Content-Length"]),
            modified_at=parsedate_to_datetime(headers["Last-Modified"]),
            checksums=_checksums(headers),
            version=headers.get("x-ms-version-id") or headers["ETag"].strip('"'),
            locked_until=parsedate_to_datetime(until) if until else None,
            # Of a list of blocks Azure checks the MD5 of each block, not that of the whole.
            noted=frozenset({"sha256", "md5"}),
        )

    def _head(self, key: str) -> Answer:
        return self._check(key, self._service.call(Request("HEAD", self._blob(key))), 200)

    def _keep_if_equal(self, key: str, answer: Answer, sent: str) -> None:
        """Remove what was stored when it is not what was sent, before anybody reads it."""
        if (found := answer.headers.get("Content-MD5", sent)) != sent:
            self.delete(key)
            raise not_as_sent(key, f"MD5 {sent}", found)

    def _wrote(self, key: str, mark: str) -> bool:
        """An answer was lost: is the object that is there now ours?"""
        return self._head(key).headers.get("x-ms-meta-write") == mark

    def _rows(self, prefix: str) -> Iterator[Listed]:
        query = {"restype": "container", "comp": "list", "prefix": prefix}
        query["maxresults"] = str(self._page_rows)
        while True:
            address = f"{self._container_url}?{urlencode(query, quote_via=quote)}"
            answer = self._check(prefix, self._service.call(Request("GET", address)), 200)
            page = self._page(prefix, answer)
            for blob in page.iterfind("Blobs/Blob"):
                yield _listed(blob)
            if not (marker := page.findtext("NextMarker")):
                return
            query["marker"] = marker

    def _page(self, prefix: str, answer: Answer) -> ElementTree.Element:
        try:
            return ElementTree.fromstring(answer.body)
        except ElementTree.ParseError as error:
            raise unreadable(self._service.name, prefix) from error

    def _blob(self, key: str) -> str:
        return f"{self._container_url}/{quote(self._names.name(key), safe='/~')}"

    def _check(self, key: str, answer: Answer, wanted: int) -> Answer:
        if answer.status == wanted:
            return answer
        code = _code(answer)
        if code == "Md5Mismatch":
            raise not_as_sent(key, "the MD5 of the request", "other bytes")
        raise self._refusal(key, answer.status, code)

    def _refusal(self, key: str, status: int, code: str) -> LeewardError:
        if code in ("ContainerNotFound", "ContainerBeingDeleted"):
            return missing_bucket()
        if status == 404:
            return missing_object(key)
        if code in ("BlobAlreadyExists", "ConditionNotMet"):
            return exists(key)
        if code == "InvalidBlockList":
            return Unavailable(
                f"expected the blocks of {key} to be there, found that another writer finished it",
                hint="Send the object again.",
                key=key,
            )
        if status in (401, 403):
            return access_denied(self._service.name, key)
        return unexpected(self._service.name, key, status, code)


class _BlockWriter:
    """One object on its way: a single request when it stays below one block.

    Blocks that no list names are unseen; Azure removes them within a week.
    """

    def __init__(self, store: AzureObjectStore, key: str) -> None:
        self._store, self._key = store, key
        self._url = store._blob(key)
        self._run = secrets.token_hex(8)
        self._buffer = bytearray()
        self._digests = _Digests()
        self._blocks: list[Future[str]] = []
        self._threads = ThreadPoolExecutor(BLOCK_THREADS)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._digests.update(data)
        view = memoryview(data)
        for start in range(0, len(view), BLOCK_BYTES):
            self._buffer += view[start : start + BLOCK_BYTES]
            if len(self._buffer) >= self._block_bytes():
                self._send_block()

    def commit(self) -> StoredObject:
        if not self._blocks:
            return self._store.put(self._key, bytes(self._buffer))
        if self._buffer:
            self._send_block()
        body = _block_list([block.result() for block in self._blocks])
        headers = self._digests.headers() | {"Content-MD5": _md5(body)}
        request = Request("PUT", f"{self._url}?comp=blocklist", headers, body)
        self._store._check(self._key, self._store._service.call(request), 201)
        self._compare()
        return self._digests.stored(self._key)

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)

    def _block_bytes(self) -> int:
        return self._store._block_bytes << (len(self._blocks) // BLOCKS_PER_SIZE)

    def _send_block(self) -> None:
        body, self._buffer = self._buffer, bytearray()
        unsent = len(self._blocks) - BLOCK_THREADS
        if unsent >= 0:
            self._blocks[unsent].result()
        # Ids of one blob have one length; those of another run must not be taken for ours.
        block = b64encode(f"{self._run}-{len(self._blocks):05}".encode()).decode()
        self._blocks.append(self._threads.submit(self._put_block, block, body))

    def _put_block(self, block: str, body: bytearray) -> str:
        query = urlencode({"comp": "block", "blockid": block}, quote_via=quote)
        sent = _md5(body)
        request = Request("PUT", f"{self._url}?{query}", {"Content-MD5": sent}, body)
        answer = self._store._check(self._key, self._store._service.call(request), 201)
        if (found := answer.headers.get("Content-MD5", sent)) != sent:
            raise not_as_sent(self._key, f"a block of MD5 {sent}", found)
        return block

    def _compare(self) -> None:
        """Azure keeps the MD5 of the whole as it was told; its own word is the size."""
        found = self._store.facts(self._key)
        wanted = (self._digests.size_bytes, self._digests.sha256())
        if (found.size_bytes, found.checksums.get("sha256")) != wanted:
            self._store.delete(self._key)
            raise not_as_sent(self._key, f"{wanted[0]} bytes", f"{found.size_bytes} bytes")


class _Digests:
    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False)
        self.size_bytes = 0

    def update(self, data: bytes | bytearray | memoryview) -> None:
        self._sha256.update(data)
        self._md5.update(data)
        self.size_bytes += len(data)

    def sha256(self) -> str:
        return self._sha256.hexdigest()

    def stored(self, key: str) -> StoredObject:
        return StoredObject(key, self.size_bytes, self.sha256())

    def headers(self) -> dict[str, str]:
        """`write` tells this request from any other that sends the same bytes."""
        return {
            "x-ms-blob-content-md5": b64encode(self._md5.digest()).decode(),
            "x-ms-blob-content-type": "application/octet-stream",
            "x-ms-meta-sha256": self.sha256(),
            "x-ms-meta-write": secrets.token_hex(8),
        }


def _md5(data: bytes | bytearray) -> str:
    return b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def _block_list(blocks: list[str]) -> bytes:
    root = ElementTree.Element("BlockList")
    for block in blocks:
        ElementTree.SubElement(root, "Uncommitted").text = block
    return b'<?xml version="1.0" encoding="utf-8"?>' + ElementTree.tostring(root)


def _code(answer: Answer) -> str:
    return answer.headers.get("x-ms-error-code", "")


def _listed(blob: ElementTree.Element) -> Listed:
    def said(name: str) -> str:
        return blob.findtext(name) or ""

    modified_at: datetime = parsedate_to_datetime(said("Properties/Last-Modified"))
    return Listed(said("Name"), int(said("Properties/Content-Length")), modified_at)


def _checksums(headers: Mapping[str, str]) -> dict[str, str]:
    md5, noted = headers.get("Content-MD5"), headers.get("x-ms-meta-sha256")
    checksums = {"md5": b64decode(md5).hex()} if md5 else {}
    return {**checksums, "sha256": noted} if noted else checksums
