"""Objects below one prefix of an Azure container, as block blobs, over its REST API.

A large object is sent as blocks by a few threads while it is produced, and appears when their list
is committed. Azure refuses a block whose MD5 is not the one sent along; the size of the whole is
compared with what it says it holds. The SHA-256 is kept as metadata, as notes are, the MD5 as
Content-MD5 and beside them.
Rights needed: Storage Blob Data Contributor on the container.
"""

from __future__ import annotations

import copy
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import partial
from urllib.parse import quote, urlencode
from xml.etree import ElementTree

from chalicelib.adapters.azure.writer import (
    BLOCK_BYTES,
    BlockWriter,
    Digests,
    LastingBlockWriter,
    md5_of,
)
from chalicelib.adapters.http.service import Answer, HttpService, Request
from chalicelib.adapters.read_ahead import RANGE_BYTES, read_ranges
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
from chalicelib.errors import LeewardError
from chalicelib.plan.records import StoredObject
from chalicelib.ports import Listed, StoredFacts
from chalicelib.ports.lasting import upload_gone

PAGE_ROWS = 5000


class AzureObjectStore:
    """The port ObjectStore on Azure Blob Storage. `prefix` is empty or ends with a slash."""

    encryption = "the account's own default (Azure encrypts with AES-256)"
    keeps_notes = True

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
        self._note: Callable[[], str] = str

    def noting(self, note: Callable[[], str]) -> AzureObjectStore:
        noting = copy.copy(self)
        noting._note = note
        return noting

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> StoredObject:
        digests = Digests()
        digests.update(data)
        headers = digests.headers(self._note()) | {"x-ms-blob-type": "BlockBlob"}
        headers["Content-MD5"] = md5_of(data)
        if if_absent:
            headers["If-None-Match"] = "*"
        answer = self._service.call(Request("PUT", self._blob(key), headers, data))
        lost = answer.status in (409, 412) and answer.attempts > 1
        if not (lost and self._wrote(key, headers["x-ms-meta-write"])):
            self._check(key, answer, 201)
            self._keep_if_equal(key, answer, headers["Content-MD5"])
        return digests.stored(key)

    @contextmanager
    def open_writer(self, key: str) -> Iterator[BlockWriter]:
        writer = BlockWriter(self, key)
        try:
            yield writer
        finally:
            writer.close()

    @contextmanager
    def open_lasting(self, key: str, checkpoint: bytes = b"") -> Iterator[LastingBlockWriter]:
        writer = LastingBlockWriter(self, key, checkpoint)
        try:
            yield writer
        finally:
            writer.close()

    def abandon(self, key: str, checkpoint: bytes) -> None:
        """Azure has no request for it: what no list has named goes within a week."""

    def get(self, key: str) -> bytes:
        return self._check(key, self._service.call(Request("GET", self._blob(key))), 200).body

    def read(self, key: str) -> Iterator[bytes]:
        yield from self._read(key, self._head(key), 0)

    def read_on(self, key: str, start: int, *, version: str) -> Iterator[bytes]:
        found = self._head(key)
        if version != _version(found.headers):
            raise changed_meanwhile(key)
        yield from self._read(key, found, start)

    def _read(self, key: str, found: Answer, start: int) -> Iterator[bytes]:
        request = Request("GET", self._blob(key), {"If-Match": found.headers["ETag"]})

        def fetch(start: int, end: int) -> bytearray:
            answer, data = self._service.read(request, start, end)
            if answer.status in (404, 412):
                raise changed_meanwhile(key)
            self._check(key, answer, 206)
            return data

        size = int(found.headers["Content-Length"])
        yield from read_ranges(size, fetch, range_bytes=self._range_bytes, begin=start)

    def list(self, prefix: str = "") -> Iterator[Listed]:
        return self._names.merged(prefix, self._rows)

    def list_noted(self, prefix: str = "") -> Iterator[Listed]:
        return self._names.merged(prefix, partial(self._rows, noted=True))

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
            version=_version(headers),
            locked_until=parsedate_to_datetime(until) if until else None,
            # Of a list of blocks Azure checks the MD5 of each block, not that of the whole.
            noted=frozenset({"sha256", "md5"}),
            noted_as=_noted_as(headers),
            note=_note(headers.get("Content-MD5"), headers, "x-ms-meta-"),
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

    def _rows(self, prefix: str, *, noted: bool = False) -> Iterator[Listed]:
        query = {"restype": "container", "comp": "list", "prefix": prefix}
        query |= {"include": "metadata"} if noted else {}
        query["maxresults"] = str(self._page_rows)
        while True:
            address = f"{self._container_url}?{urlencode(query, quote_via=quote)}"
            answer = self._check(prefix, self._service.call(Request("GET", address)), 200)
            page = self._page(prefix, answer)
            for blob in page.iterfind("Blobs/Blob"):
                yield _listed(blob, noted=noted)
            if not (marker := page.findtext("NextMarker")):
                return
            query["marker"] = marker

    def _page(self, prefix: str, answer: Answer) -> ElementTree.Element:
        """A page of somebody else, a login perhaps, is no empty listing."""
        try:
            page = ElementTree.fromstring(answer.body)
        except ElementTree.ParseError as error:
            raise unreadable(self._service.name, prefix) from error
        if page.tag != "EnumerationResults":
            raise unreadable(self._service.name, prefix)
        return page

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
            return upload_gone(f"none of {key}: its blocks went, or another writer finished it")
        if status in (401, 403):
            return access_denied(self._service.name, key)
        return unexpected(self._service.name, key, status, code)


def _code(answer: Answer) -> str:
    return answer.headers.get("x-ms-error-code", "")


def _version(headers: Mapping[str, str]) -> str:
    return headers.get("x-ms-version-id") or headers["ETag"].strip('"')


def _listed(blob: ElementTree.Element, *, noted: bool) -> Listed:
    def said(name: str) -> str:
        return blob.findtext(name) or ""

    modified_at: datetime = parsedate_to_datetime(said("Properties/Last-Modified"))
    row = Listed(said("Name"), int(said("Properties/Content-Length")), modified_at)
    if not noted:
        return row
    metadata = {it.tag.lower(): it.text or "" for it in blob.iterfind("Metadata/*")}
    return replace(row, note=_note(said("Properties/Content-MD5"), metadata))


def _note(md5: str | None, metadata: Mapping[str, str], start: str = "") -> str:
    """What was noted, "" when the MD5 that Azure has of the blob is not the one noted with it."""
    if not md5 or b64decode(md5).hex() != metadata.get(f"{start}md5"):
        return ""
    return metadata.get(f"{start}note", "")


def _checksums(headers: Mapping[str, str]) -> dict[str, str]:
    md5, noted = headers.get("Content-MD5"), headers.get("x-ms-meta-sha256")
    checksums = {"md5": b64decode(md5).hex()} if md5 else {}
    return {**checksums, "sha256": noted} if noted else checksums


def _noted_as(headers: Mapping[str, str]) -> dict[str, str]:
    noted = headers.get("x-ms-meta-md5")
    return {"md5": noted} if noted else {}
