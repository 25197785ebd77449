"""Objects below one prefix of a Google Cloud Storage bucket, over its JSON API.

A large object goes through one resumable upload: chunks are sent while the next is produced, and
the object appears with the last of them. Each upload declares its CRC-32C, so that Google refuses
other bytes; what it then says it holds is compared too. Both are kept as metadata, and notes are.
Rights needed: storage.objects.create, get, list, delete, update.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import Any
from urllib.parse import quote, urlencode

from chalicelib.adapters.gcs.resources import (
    Digests,
    checksums_of,
    locked_until,
    note_of,
    noted_as,
    related,
    says_invalid,
)
from chalicelib.adapters.gcs.writer import (
    CHUNK_BYTES,
    FIELDS,
    ChunkWriter,
    LastingChunkWriter,
    abandon,
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

PAGE_ROWS = 1000
ROW_FIELDS = "items(name,size,updated),nextPageToken"
NOTED_FIELDS = "items(name,size,updated,crc32c,metadata),nextPageToken"


class GcsObjectStore:
    """The port ObjectStore on GCS. `prefix` is empty or ends with a slash."""

    encryption = "the bucket's own default (Google encrypts with AES-256 at least)"
    keeps_notes = True

    def __init__(
        self,
        service: tuple[HttpService, str],
        bucket: str,
        prefix: str = "",
        *,
        chunk_bytes: int = CHUNK_BYTES,
        range_bytes: int = RANGE_BYTES,
        page_rows: int = PAGE_ROWS,
    ) -> None:
        self._service, self._url = service
        self._bucket = bucket
        self._names = KeyNames(prefix)
        self._chunk_bytes = chunk_bytes
        self._range_bytes = range_bytes
        self._page_rows = page_rows
        self._note: Callable[[], str] = str

    def noting(self, note: Callable[[], str]) -> GcsObjectStore:
        noting = copy.copy(self)
        noting._note = note
        return noting

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> StoredObject:
        digests = Digests()
        digests.update(data)
        resource = digests.resource(self._names.name(key), self._note())
        boundary, body = related(resource, data)
        query = {"uploadType": "multipart", "fields": FIELDS}
        if if_absent:
            query["ifGenerationMatch"] = "0"
        headers = {"Content-Type": f"multipart/related; boundary={boundary}"}
        answer = self._service.call(Request("POST", self._upload(query), headers, body))
        if answer.status == 412 and answer.attempts > 1 and self._wrote(key, resource):
            return digests.stored(key)
        self._keep_if_equal(key, answer, digests)
        return digests.stored(key)

    @contextmanager
    def open_writer(self, key: str) -> Iterator[ChunkWriter]:
        writer = ChunkWriter(self, key, self._names.name(key))
        try:
            yield writer
        finally:
            writer.close()

    @contextmanager
    def open_lasting(self, key: str, checkpoint: bytes = b"") -> Iterator[LastingChunkWriter]:
        writer = LastingChunkWriter(self, key, self._names.name(key), checkpoint)
        try:
            yield writer
        finally:
            writer.close()

    def abandon(self, key: str, checkpoint: bytes) -> None:
        abandon(self._service, checkpoint)

    def get(self, key: str) -> bytes:
        answer = self._service.call(Request("GET", self._object(key, {"alt": "media"})))
        if answer.status != 200:
            raise self._refusal(key, answer)
        return answer.body

    def read(self, key: str) -> Iterator[bytes]:
        yield from self._read(key, self._head(key), 0)

    def read_on(self, key: str, start: int, *, version: str) -> Iterator[bytes]:
        found = self._head(key)
        if str(found["generation"]) != version:
            raise changed_meanwhile(key)
        yield from self._read(key, found, start)

    def _read(self, key: str, found: Mapping[str, Any], start: int) -> Iterator[bytes]:
        address = self._object(key, {"alt": "media", "generation": found["generation"]})

        def fetch(start: int, end: int) -> bytearray:
            answer, data = self._service.read(Request("GET", address), start, end)
            if answer.status == 404:
                raise changed_meanwhile(key)
            if answer.status != 206:
                raise self._refusal(key, answer)
            return data

        size = int(found["size"])
        yield from read_ranges(size, fetch, range_bytes=self._range_bytes, begin=start)

    def list(self, prefix: str = "") -> Iterator[Listed]:
        return self._names.merged(prefix, self._rows)

    def list_noted(self, prefix: str = "") -> Iterator[Listed]:
        return self._names.merged(prefix, partial(self._rows, fields=NOTED_FIELDS))

    def delete(self, key: str) -> None:
        answer = self._service.call(Request("DELETE", self._object(key)))
        if answer.status not in (200, 204) and not self._is_missing(key, answer):
            raise self._refusal(key, answer)

    def facts(self, key: str) -> StoredFacts:
        found = self._head(key)
        return StoredFacts(
            size_bytes=int(found["size"]),
            modified_at=datetime.fromisoformat(found["updated"]),
            checksums=checksums_of(found),
            version=str(found["generation"]),
            locked_until=locked_until(found),
            noted=frozenset({"sha256"}),
            noted_as=noted_as(found),
            note=note_of(found),
        )

    def _head(self, key: str) -> dict[str, Any]:
        answer = self._service.call(Request("GET", self._object(key, {"fields": FIELDS})))
        return self._json(key, answer)

    def _rows(self, prefix: str, fields: str = ROW_FIELDS) -> Iterator[Listed]:
        rows = str(self._page_rows)
        query = {"prefix": prefix, "fields": fields, "maxResults": rows}
        while True:
            answer = self._service.call(Request("GET", self._bucket_url(query)))
            page = self._json(prefix, answer, bucket_alone=True)
            for row in page.get("items", ()):
                written_at = datetime.fromisoformat(row["updated"])
                note = note_of(row) if fields == NOTED_FIELDS else None
                yield Listed(row["name"], int(row["size"]), written_at, note)
            if not page.get("nextPageToken"):
                return
            query["pageToken"] = page["nextPageToken"]

    def _keep_if_equal(self, key: str, answer: Answer, digests: Digests) -> dict[str, Any]:
        """Remove what was stored when it is not what was sent, before anybody reads it."""
        sent = (str(digests.size_bytes), digests.crc32c())
        words = f"{sent[0]} bytes, CRC-32C {sent[1]}"
        if says_invalid(answer):
            raise not_as_sent(key, words, "that Google calls them invalid")
        found = self._json(key, answer, bucket_alone=True)
        if (found.get("size"), found.get("crc32c")) != sent:
            query = {"generation": str(found["generation"])}
            self._service.call(Request("DELETE", self._object(key, query)))
            raise not_as_sent(key, words, str(found.get("crc32c")))
        return found

    def _wrote(self, key: str, resource: Mapping[str, Any]) -> bool:
        """An answer was lost: is the object that is there now ours?"""
        return bool(self._head(key).get("metadata") == resource["metadata"])

    def _json(self, key: str, answer: Answer, *, bucket_alone: bool = False) -> dict[str, Any]:
        if answer.status == 404 and bucket_alone:
            raise missing_bucket()
        if answer.status not in (200, 201):
            raise self._refusal(key, answer)
        try:
            found: dict[str, Any] = json.loads(answer.body)
        except ValueError as error:
            raise unreadable(self._service.name, key) from error
        if not isinstance(found, dict):
            raise unreadable(self._service.name, key)
        return found

    def _refusal(self, key: str, answer: Answer) -> LeewardError:
        if answer.status in (401, 403):
            return access_denied(self._service.name, key)
        if answer.status == 412:
            return exists(key)
        if self._is_missing(key, answer):
            return missing_object(key)
        return unexpected(self._service.name, key, answer.status)

    def _is_missing(self, key: str, answer: Answer) -> bool:
        """The answer to a missing object and to a missing bucket is the same 404."""
        if answer.status != 404:
            return False
        query = {"maxResults": "1", "prefix": self._names.name(key), "fields": "nextPageToken"}
        probe = self._service.call(Request("GET", self._bucket_url(query)))
        if probe.status == 404:
            raise missing_bucket()
        return True

    def _object(self, key: str, query: Mapping[str, str] | None = None) -> str:
        name = quote(self._names.name(key), safe="")
        return f"{self._url}/storage/v1/b/{self._bucket}/o/{name}?{urlencode(query or {})}"

    def _bucket_url(self, query: Mapping[str, str]) -> str:
        return f"{self._url}/storage/v1/b/{self._bucket}/o?{urlencode(query)}"

    def _upload(self, query: Mapping[str, str]) -> str:
        return f"{self._url}/upload/storage/v1/b/{self._bucket}/o?{urlencode(query)}"
