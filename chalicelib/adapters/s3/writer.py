"""One object on its way to S3, in parts, sent by one process or by several in turn."""

from __future__ import annotations

import hashlib
from base64 import b64decode, b64encode
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from chalicelib.adapters.aws_errors import mapped
from chalicelib.adapters.s3.answers import compare, mapped_object
from chalicelib.errors import LeewardError, Refused, Unavailable
from chalicelib.plan.records import StoredObject
from chalicelib.ports.lasting import RunningDigest, pack, unpack

if TYPE_CHECKING:
    from chalicelib.adapters.s3.store import S3ObjectStore

PART_THREADS = 3
# S3 takes 10,000 parts of up to 5 GiB; doubling every 1,500 parts reaches 2.5 TiB.
PARTS_PER_SIZE = 1500


def part_bytes(smallest: int, number: int) -> int:
    """How large part `number` (from 0) is: a copy that is cut alike has the checksum of this."""
    return smallest << (number // PARTS_PER_SIZE)


class PartWriter:
    """One object on its way: a single PUT when it stays below one part."""

    def __init__(self, store: S3ObjectStore, key: str) -> None:
        self._store, self._key = store, key
        self._address = store._address(key)
        self._buffer = bytearray()
        self._whole: Any = hashlib.sha256()
        self._size_bytes = 0
        self._parts: list[Future[dict[str, Any]]] = []
        self._upload_id = ""
        self._threads = ThreadPoolExecutor(PART_THREADS)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._whole.update(data)
        self._size_bytes += len(data)
        self._buffer += data
        while len(self._buffer) >= self._part_bytes():
            self._send_part()

    def commit(self) -> StoredObject:
        if not self._parts:
            return self._store.put(self._key, bytes(self._buffer))
        if self._buffer:
            self._send_part()
        parts = [part.result() for part in self._parts]
        with mapped("s3", key=self._key), mapped_object(self._key):
            answer = self._store._client.complete_multipart_upload(
                **self._address, UploadId=self._upload_id, MultipartUpload={"Parts": parts}
            )
        self._upload_id = ""
        digests = b"".join(b64decode(part["ChecksumSHA256"]) for part in parts)
        stored = answer.get("ChecksumSHA256") or self._stored_checksum()
        compare(self._key, stored, hashlib.sha256(digests).digest())
        return StoredObject(self._key, self._size_bytes, self._whole.hexdigest())

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)
        if self._upload_id:
            # What cannot be aborted now is removed by the bucket's own rule for such leftovers.
            with suppress(Unavailable, Refused), mapped("s3", key=self._key):
                self._store._client.abort_multipart_upload(
                    **self._address, UploadId=self._upload_id
                )

    def _part_bytes(self) -> int:
        return part_bytes(self._store._part_bytes, len(self._parts))

    def _send_part(self) -> None:
        if not self._upload_id:
            self._begin()
        size = self._part_bytes()
        body = self._buffer[:size]
        del self._buffer[:size]
        unsent = len(self._parts) - PART_THREADS
        if unsent >= 0:
            self._parts[unsent].result()
        number = len(self._parts) + 1
        self._parts.append(self._threads.submit(self._upload_part, number, body))

    def _begin(self) -> None:
        with mapped("s3", key=self._key), mapped_object(self._key):
            answer = self._store._client.create_multipart_upload(
                **self._address, **self._store._at_rest(), ChecksumAlgorithm="SHA256"
            )
        self._upload_id = str(answer["UploadId"])

    def _upload_part(self, number: int, body: bytearray) -> dict[str, Any]:
        checksum = b64encode(hashlib.sha256(body).digest()).decode()
        with mapped("s3", key=self._key), mapped_object(self._key):
            answer = self._store._client.upload_part(
                **self._address, UploadId=self._upload_id, PartNumber=number, Body=body,
                ChecksumSHA256=checksum,
            )  # fmt: skip
        return {"PartNumber": number, "ETag": answer["ETag"], "ChecksumSHA256": checksum}

    def _stored_checksum(self) -> str | None:
        with mapped("s3", key=self._key):
            facts = self._store._client.head_object(**self._address, ChecksumMode="ENABLED")
        found: str | None = facts.get("ChecksumSHA256")
        return found


class LastingPartWriter(PartWriter):
    """Nobody aborts its upload but `abandon`."""

    def __init__(self, store: S3ObjectStore, key: str, checkpoint: bytes = b"") -> None:
        super().__init__(store, key)
        self._whole = RunningDigest()
        if not checkpoint:
            return
        facts, rest = unpack(checkpoint)
        self._whole = RunningDigest(state=facts["sha256"])
        self._size_bytes, self._upload_id = facts["size"], facts["upload"]
        self._parts = [_done(number, *part) for number, part in enumerate(facts["parts"], 1)]
        self._buffer = bytearray(rest)

    def checkpoint(self) -> bytes:
        done = [part.result() for part in self._parts]
        facts = {
            "upload": self._upload_id,
            "size": self._size_bytes,
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
        with mapped("s3", key=key), mapped_object(key):
            store._client.abort_multipart_upload(**store._address(key), UploadId=upload_id)
    except LeewardError as error:
        if error.instance_code != "upload-gone":
            raise


def _done(number: int, etag: str, checksum: str) -> Future[dict[str, Any]]:
    part: Future[dict[str, Any]] = Future()
    part.set_result({"PartNumber": number, "ETag": etag, "ChecksumSHA256": checksum})
    return part
