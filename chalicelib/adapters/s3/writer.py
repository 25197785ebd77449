"""One object on its way to S3, in parts, sent by one process or by several in turn."""

from __future__ import annotations

import hashlib
from base64 import b64decode
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from chalicelib.adapters.s3.answers import compare
from chalicelib.adapters.s3.calls import Upload
from chalicelib.adapters.s3.cut import UNTOLD, Cut
from chalicelib.adapters.s3.reader import TELL
from chalicelib.errors import LeewardError, Refused, Unavailable
from chalicelib.plan.records import StoredObject
from chalicelib.ports.lasting import RunningDigest, pack, unpack

if TYPE_CHECKING:
    from chalicelib.adapters.s3.store import S3ObjectStore

PART_THREADS = 3
# S3 takes 10,000 parts of 5 MiB to 5 GiB; from 5 MiB on this reaches 4.9 TiB.
PARTS_PER_SIZE = 1000


class PartWriter:
    """One object on its way: a single PUT when it stays below one part."""

    def __init__(self, store: S3ObjectStore, key: str) -> None:
        self._store, self._key = store, key
        self._object = store.object(key)
        self._cut = Cut(store.part_bytes, PARTS_PER_SIZE)
        self._buffer = bytearray()
        self._whole: Any = hashlib.sha256()
        self._size_bytes = 0
        self._parts: list[Future[dict[str, str]]] = []
        self._upload: Upload | None = None
        self._threads = ThreadPoolExecutor(PART_THREADS)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._whole.update(data)
        self._size_bytes += len(data)
        left = memoryview(data)
        while left:
            room = self._part_bytes() - len(self._buffer)
            self._buffer += left[:room]
            left = left[room:]
            if len(self._buffer) == self._part_bytes():
                self._send_part(self._begun())

    def commit(self) -> StoredObject:
        if self._upload is None:
            return self._store.put(self._key, self._buffer)
        if self._buffer:
            self._send_part(self._upload)
        parts = [part.result() for part in self._parts]
        told = self._store.calls.complete(self._upload, parts)
        self._upload = None
        digests = b"".join(b64decode(part["ChecksumSHA256"]) for part in parts)
        compare(self._key, told or self._stored_checksum(), hashlib.sha256(digests).digest())
        return StoredObject(self._key, self._size_bytes, self._whole.hexdigest())

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)
        if self._upload is not None:
            # What cannot be aborted now is removed by the bucket's own rule for such leftovers.
            with suppress(Unavailable, Refused):
                self._store.calls.abort(self._upload)

    def _part_bytes(self) -> int:
        return self._cut.part_bytes(len(self._parts) + 1)

    def _send_part(self, upload: Upload) -> None:
        body, self._buffer = self._buffer, bytearray()
        unsent = len(self._parts) - PART_THREADS
        if unsent >= 0:
            self._parts[unsent].result()
        number = len(self._parts) + 1
        put_part = self._store.calls.put_part
        self._parts.append(self._threads.submit(put_part, upload, number, body))

    def _begun(self) -> Upload:
        if self._upload is None:
            self._upload = self._store.calls.begin(self._object, self._cut.header)
        return self._upload

    def _stored_checksum(self) -> str:
        return self._store.head(self._key, TELL).get("x-amz-checksum-sha256", "")


class LastingPartWriter(PartWriter):
    """Nobody aborts its upload but `abandon`."""

    def __init__(self, store: S3ObjectStore, key: str, checkpoint: bytes = b"") -> None:
        super().__init__(store, key)
        self._whole = RunningDigest()
        if not checkpoint:
            return
        facts, rest = unpack(checkpoint)
        self._whole = RunningDigest(state=facts["sha256"])
        self._size_bytes = facts["size"]
        self._cut = Cut(*facts["cut"]) if "cut" in facts else UNTOLD
        if facts["upload"]:
            self._upload = Upload(self._object, facts["upload"])
        self._parts = [_done(number, *part) for number, part in enumerate(facts["parts"], 1)]
        self._buffer = bytearray(rest)

    def checkpoint(self) -> bytes:
        done = [part.result() for part in self._parts]
        facts = {
            "upload": self._upload.id if self._upload else "",
            "size": self._size_bytes,
            "cut": [self._cut.smallest, self._cut.per_size],
            "sha256": self._whole.state(),
            "parts": [[part["ETag"], part["ChecksumSHA256"]] for part in done],
        }
        return pack(facts, self._buffer)

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)


def abandon(store: S3ObjectStore, key: str, checkpoint: bytes) -> None:
    upload_id = unpack(checkpoint)[0]["upload"]
    if not upload_id:
        return
    try:
        store.calls.abort(Upload(store.object(key), upload_id))
    except LeewardError as error:
        if error.instance_code != "upload-gone":
            raise


def _done(number: int, etag: str, checksum: str) -> Future[dict[str, str]]:
    part: Future[dict[str, str]] = Future()
    part.set_result({"PartNumber": str(number), "ETag": etag, "ChecksumSHA256": checksum})
    return part
