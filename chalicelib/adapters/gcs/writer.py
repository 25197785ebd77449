"""One object on its way to Google, in chunks of one resumable upload.

The upload may be gone on with by another process: Google says how much of it has arrived.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from chalicelib.adapters.gcs.resources import Digests, kept_bytes
from chalicelib.adapters.http.service import Answer, HttpService, Request
from chalicelib.adapters.read_ahead import MIB
from chalicelib.adapters.refusals import missing_bucket
from chalicelib.errors import LeewardError, Unavailable
from chalicelib.plan.records import StoredObject
from chalicelib.ports.lasting import pack, unpack, upload_gone

if TYPE_CHECKING:
    from chalicelib.adapters.gcs.store import GcsObjectStore

# Chunks of a resumable upload are multiples of 256 KiB; Google advises 8 MiB at least.
CHUNK_BYTES = 8 * MIB
CHUNKS_WAITING = 2
CHUNK_ATTEMPTS = 9
FIELDS = "name,size,updated,generation,crc32c,md5Hash,metadata,retentionExpirationTime,retention"
JSON_TYPE = {"Content-Type": "application/json"}
# What Google answers to an upload that has ended: by itself after a week, or because it was whole.
GONE = (404, 410)


class ChunkWriter:
    """One object on its way: a single request when it stays below one chunk."""

    def __init__(self, store: GcsObjectStore, key: str, name: str) -> None:
        self._store, self._key, self._name = store, key, name
        self._buffer = bytearray()
        self._digests = Digests()
        self._session = ""
        self._sent = self._arrived = 0
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
        if self._sent + size > self._arrived:
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
            if answer.status in GONE:
                raise upload_gone(f"none of {self._key} any more (HTTP {answer.status})")
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
            headers |= self._digests.last_headers(self._store._note())
        return Request("PUT", self._session, headers, body)

    def _note_digest(self, found: Mapping[str, Any]) -> None:
        """Google takes metadata with the last chunk; whatever does not is told once more."""
        wanted = self._digests.metadata(self._store._note())
        if wanted.items() <= found.get("metadata", {}).items():
            return
        query = {"generation": str(found["generation"])}
        resource = json.dumps({"metadata": wanted}).encode()
        request = Request("PATCH", self._store._object(self._key, query), dict(JSON_TYPE), resource)
        answer = self._store._service.call(request)
        if answer.status != 200:
            raise self._store._refusal(self._key, answer)


class LastingChunkWriter(ChunkWriter):
    """Nobody cancels its upload but `abandon`. What has arrived is not sent again."""

    def __init__(self, store: GcsObjectStore, key: str, name: str, checkpoint: bytes = b"") -> None:
        super().__init__(store, key, name)
        facts, rest = unpack(checkpoint) if checkpoint else ({}, b"")
        self._digests = Digests(facts.get("digests"), lasting=True)
        self._session, self._sent = facts.get("session", ""), facts.get("sent", 0)
        self._buffer = bytearray(rest)
        if self._session:
            self._arrived = self._ask()

    def checkpoint(self) -> bytes:
        self._settle(0)
        facts = {"session": self._session, "sent": self._sent, "digests": self._digests.state()}
        return pack(facts, self._buffer)

    def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)

    def _ask(self) -> int:
        """How much has arrived: at least what the checkpoint knows of."""
        request = Request("PUT", self._session, {"Content-Range": "bytes */*"})
        kept = kept_bytes(self._store._service.call(request))
        if kept is None or kept < self._sent:
            raise upload_gone(f"one of {self._key} with {kept or 0} bytes")
        return kept


def abandon(service: HttpService, checkpoint: bytes) -> None:
    session = unpack(checkpoint)[0].get("session")
    if session:
        service.call(Request("DELETE", session))
