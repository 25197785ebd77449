"""Objects below one prefix of a Google Cloud Storage bucket, over its JSON API.

A large object goes through one resumable upload: chunks are sent while the next is produced, and
the object appears with the last of them. Each upload declares its CRC-32C, so that Google refuses
other bytes; what it then says it holds is compared too. The SHA-256 is kept as metadata.
Rights needed: storage.objects.create, get, list, delete, update.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

from chalicelib.adapters.gcs.resources import (
    Digests,
    checksums_of,
    kept_bytes,
    locked_until,
    related,
    says_invalid,
)
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

# Chunks of a resumable upload are multiples of 256 KiB; Google advises 8 MiB at least.
CHUNK_BYTES = 8 * MIB
CHUNKS_WAITING = 2
CHUNK_ATTEMPTS = 9
PAGE_ROWS = 1000
FIELDS = "name,size,updated,generation,crc32c,md5Hash,metadata,retentionExpirationTime,retention"
ROW_FIELDS = "items(name,size,updated),nextPageToken"
JSON_TYPE = {"Content-Type": "application/json"}


class GcsObjectStore:
    """The port ObjectStore on GCS. `prefix` is empty or ends with a slash."""

    encryption = "the bucket's own default (Google encrypts with AES-256 at least)"

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

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> StoredObject:
        digests = Digests()
        digests.update(data)
        resource = {**digests.resource(self._names.name(key)), "crc32c": digests.crc32c()}
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
    def open_writer(self, key: str) -> Iterator[_ChunkWriter]:
        writer = _ChunkWriter(self, key, self._names.name(key))
        try:
            yield writer
        finally:
            writer.close()

    def get(self, key: str) -> bytes:
        answer = self._service.call(Request("GET", self._object(key, {"alt": "media"})))
        if answer.status != 200:
            raise self._refusal(key, answer)
        return answer.body

    def read(self, key: str) -> Iterator[bytes]:
        found = self._head(key)
        address = self._object(key, {"alt": "media", "generation": found["generation"]})

        def fetch(start: int, end: int) -> bytearray:
            answer, data = self._service.read(Request("GET", address), start, end)
            if answer.status == 404:
                raise changed_meanwhile(key)
            if answer.status != 206:
                raise self._refusal(key, answer)
            return data

        yield from read_ranges(int(found["size"]), fetch, range_bytes=self._range_bytes)

    def list(self, prefix: str = "") -> Iterator[Listed]:
        return self._names.merged(prefix, self._rows)

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
        )

    def _head(self, key: str) -> dict[str, Any]:
        answer = self._service.call(Request("GET", self._object(key, {"fields": FIELDS})))
        return self._json(key, answer)

    def _rows(self, prefix: str) -> Iterator[Listed]:
        rows = str(self._page_rows)
        query = {"prefix": prefix, "fields": ROW_FIELDS, "maxResults": rows}
        while True:
            answer = self._service.call(Request("GET", self._bucket_url(query)))
            page = self._json(prefix, answer, bucket_alone=True)
            for row in page.get("items", ()):
                yield Listed(row["name"], int(row["size"]), datetime.fromisoformat(row["updated"]))
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


class _ChunkWriter:
    """One object on its way: a single request when it stays below one chunk."""

    def __init__(self, store: GcsObjectStore, key: str, name: str) -> None:
        self._store, self._key, self._name = store, key, name
        self._buffer = bytearray()
        self._digests = Digests()
        self._session = ""
        self._sent = 0
        self._thread = ThreadPoolExecutor(1)
        self._waiting: deque[Future[Answer]] = deque()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """The last byte stays here until `commit`: the chunk that ends the object says so."""
        self._digests.update(data)
        view = memoryview(data)
        for start in range(0, len(view), CHUNK_BYTES):
            self._buffer += view[start : start + CHUNK_BYTES]
            while len(self._buffer) > self._store._chunk_bytes:
                self._send_chunk()

    def commit(self) -> StoredObject:
        if not self._session:
            return self._store.put(self._key, bytes(self._buffer))
        self._settle(0)
        body, self._buffer = self._buffer, bytearray()
        answer = self._put_chunk(body, self._sent, total=str(self._digests.size_bytes))
        self._session = ""
        self._note_digest(self._store._keep_if_equal(self._key, answer, self._digests))
        return self._digests.stored(self._key)

    def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)
        if self._session:
            # What cannot be cancelled now ends by itself within a week, unseen.
            with suppress(LeewardError):
                self._store._service.call(Request("DELETE", self._session))

    def _send_chunk(self) -> None:
        if not self._session:
            self._begin()
        size = self._store._chunk_bytes
        body = self._buffer[:size]
        del self._buffer[:size]
        self._settle(CHUNKS_WAITING - 1)
        self._waiting.append(self._thread.submit(self._put_chunk, body, self._sent))
        self._sent += size

    def _settle(self, left: int) -> None:
        while len(self._waiting) > left:
            answer = self._waiting.popleft().result()
            if answer.status != 308:
                raise self._store._refusal(self._key, answer)

    def _begin(self) -> None:
        query = {"uploadType": "resumable", "name": self._name, "fields": FIELDS}
        resource = json.dumps({"name": self._name, "contentType": "application/octet-stream"})
        request = Request("POST", self._store._upload(query), dict(JSON_TYPE), resource.encode())
        answer = self._store._service.call(request)
        if answer.status == 404:
            raise missing_bucket()
        if answer.status not in (200, 201):
            raise self._store._refusal(self._key, answer)
        self._session = answer.headers["Location"]

    def _put_chunk(self, body: bytearray, start: int, total: str = "*") -> Answer:
        """Sent until Google has all of it: it says how many bytes it has, and ignores those."""
        end = start + len(body)
        for _ in range(CHUNK_ATTEMPTS):
            rest = memoryview(body)[start - end :]
            answer = self._store._service.call(self._chunk(rest, start, total))
            kept = kept_bytes(answer)
            if answer.status in (404, 410):
                break
            if kept is None or kept == end:
                return answer
            start = max(start, min(kept, end - 1))
        raise Unavailable(
            f"expected {self._store._service.name} to keep {end} bytes of {self._key}, "
            f"found {kept or 0} (HTTP {answer.status})",
            hint="Send the object again.",
            key=self._key,
        )

    def _chunk(self, body: memoryview, start: int, total: str) -> Request:
        headers = {"Content-Range": f"bytes {start}-{start + len(body) - 1}/{total}"}
        if total != "*":
            headers |= self._digests.last_headers()
        return Request("PUT", self._session, headers, body)

    def _note_digest(self, found: Mapping[str, Any]) -> None:
        """Google takes metadata with the last chunk; whatever does not is told once more."""
        if found.get("metadata", {}).get("sha256") == self._digests.sha256():
            return
        query = {"generation": str(found["generation"])}
        resource = json.dumps({"metadata": {"sha256": self._digests.sha256()}}).encode()
        request = Request("PATCH", self._store._object(self._key, query), dict(JSON_TYPE), resource)
        answer = self._store._service.call(request)
        if answer.status != 200:
            raise self._store._refusal(self._key, answer)
