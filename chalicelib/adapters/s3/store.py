"""Objects below one prefix of an S3 bucket, encrypted at rest, each checked by S3 itself.

A large object is sent in parts by a few threads while it is produced; memory is the part size
times the number of threads plus two. S3 refuses a part whose SHA-256 is not the one sent along,
and the checksum of the whole is compared when it is put together.
"""

from __future__ import annotations

import hashlib
import re
import time
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from functools import partial
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, HTTPClientError, IncompleteReadError

from chalicelib.adapters.aws_errors import error_code, mapped
from chalicelib.adapters.read_ahead import CHUNK_BYTES, MIB, RANGE_BYTES, read_ranges
from chalicelib.adapters.refusals import (
    changed_meanwhile,
    exists,
    key_too_long,
    missing_bucket,
    missing_object,
    not_as_sent,
)
from chalicelib.adapters.sealing.key_names import KeyNames
from chalicelib.errors import LeewardError, Refused, Truncated, Unavailable
from chalicelib.plan.records import StoredObject
from chalicelib.ports import Listed, StoredFacts

PART_BYTES = 16 * MIB
PART_THREADS = 3
# S3 takes 10,000 parts of up to 5 GiB; doubling every 1,500 parts reaches 2.5 TiB.
PARTS_PER_SIZE = 1500
# The largest object that S3 copies in one request.
COPY_BYTES = 5 << 30
READ_ATTEMPTS = 6
LONGEST_PAUSE_SECONDS = 10.0


def connect_s3(
    region: str | None = None, endpoint_url: str | None = None, *, attempts: int = 9
) -> Any:
    """A client that rides out about a minute of 503, SlowDown and resets.

    The region and the endpoint are those of the environment when they are None.

    Bodies carry a SHA-256 checksum that S3 verifies, so they are not hashed again for the
    signature.
    """
    config = Config(
        retries={"mode": "standard", "total_max_attempts": attempts},
        connect_timeout=5,
        read_timeout=30,
        max_pool_connections=16,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"payload_signing_enabled": False},
    )
    return boto3.client("s3", region_name=region, endpoint_url=endpoint_url, config=config)


class S3ObjectStore:
    """The port ObjectStore on S3. `prefix` is empty or ends with a slash."""

    def __init__(
        self,
        client: Any,
        bucket: str,
        prefix: str = "",
        *,
        kms_key_id: str | None = None,
        part_bytes: int = PART_BYTES,
        range_bytes: int = RANGE_BYTES,
    ) -> None:
        self._client = client
        self._bucket = bucket
        self._names = KeyNames(prefix)
        self._kms_key_id = kms_key_id
        self._part_bytes = part_bytes
        self._range_bytes = range_bytes

    @property
    def encryption(self) -> str:
        if self._kms_key_id:
            return f"SSE-KMS {self._kms_key_id}"
        return "the bucket's own default (S3 encrypts with AES-256 at least)"

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> StoredObject:
        digest = hashlib.sha256(data)
        condition = {"IfNoneMatch": "*"} if if_absent else {}
        with mapped("s3", key=key), _mapped_object(key):
            answer = self._client.put_object(
                **self._address(key), **self._at_rest(), **condition,
                Body=data, ChecksumAlgorithm="SHA256",
                ChecksumSHA256=b64encode(digest.digest()).decode(),
            )  # fmt: skip
        _compare(key, answer.get("ChecksumSHA256"), digest.digest())
        return StoredObject(key, len(data), digest.hexdigest())

    @contextmanager
    def open_writer(self, key: str) -> Iterator[_PartWriter]:
        writer = _PartWriter(self, key)
        try:
            yield writer
        finally:
            writer.close()

    def get(self, key: str) -> bytes:
        with mapped("s3", key=key), _mapped_object(key), suppress(*BROKEN_BODY):
            return bytes(self._client.get_object(**self._address(key))["Body"].read())
        return b"".join(self.read(key))

    def read(self, key: str) -> Iterator[bytes]:
        found = self._head(key)
        fetch = partial(self._range, key, size=found["ContentLength"], etag=found["ETag"])
        yield from read_ranges(found["ContentLength"], fetch, range_bytes=self._range_bytes)

    def copy_from(self, source: object, key: str) -> StoredObject | None:
        """Up to 5 GiB from another bucket of S3, in any region; S3 computes the SHA-256 anew.

        Source: "CopyObject" in the API reference: larger objects are copied in parts, whose
        checksum is not the object's.
        """
        if not isinstance(source, S3ObjectStore):
            return None
        size = source.facts(key).size_bytes
        if size > COPY_BYTES:
            return None
        with mapped("s3", key=key), _mapped_object(key):
            self._client.copy_object(
                **self._address(key), **self._at_rest(),
                CopySource=source._address(key), ChecksumAlgorithm="SHA256",
            )  # fmt: skip
        found = self.facts(key).checksums.get("sha256")
        return None if found is None else StoredObject(key, size, found)

    def list(self, prefix: str = "") -> Iterator[Listed]:
        return self._names.merged(prefix, self._rows)

    def delete(self, key: str) -> None:
        with mapped("s3", key=key), _mapped_object(key):
            self._client.delete_object(**self._address(key))

    def facts(self, key: str) -> StoredFacts:
        found = self._head(key, ChecksumMode="ENABLED")
        return StoredFacts(
            size_bytes=found["ContentLength"],
            modified_at=found["LastModified"],
            checksums=checksums_of(found),
            version=found.get("VersionId") or found["ETag"].strip('"'),
            locked_until=found.get("ObjectLockRetainUntilDate"),
        )

    def _rows(self, prefix: str) -> Iterator[Listed]:
        pages = self._client.get_paginator("list_objects_v2")
        with mapped("s3", prefix=prefix), _mapped_object(prefix):
            for page in pages.paginate(Bucket=self._bucket, Prefix=prefix):
                for row in page.get("Contents", ()):
                    yield Listed(row["Key"], row["Size"], row["LastModified"])

    def _address(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._names.name(key)}

    def _at_rest(self) -> dict[str, Any]:
        if not self._kms_key_id:
            return {}
        return {
            "ServerSideEncryption": "aws:kms",
            "SSEKMSKeyId": self._kms_key_id,
            "BucketKeyEnabled": True,
        }

    def _head(self, key: str, **how: str) -> dict[str, Any]:
        with mapped("s3", key=key), _mapped_object(key):
            try:
                return dict(self._client.head_object(**self._address(key), **how))
            except ClientError as error:
                if error_code(error) != "404":
                    raise
                # An answer to HEAD has no body; this one says whether the bucket is missing.
                self._client.get_object(**self._address(key))
                raise

    def _range(self, key: str, start: int, end: int, *, size: int, etag: str) -> bytearray:
        """[start, end) of an object, resumed where a connection broke."""
        wanted = end - start
        found = bytearray()
        failures = 0
        while len(found) < wanted:
            before = len(found)
            with mapped("s3", key=key), _mapped_object(key), suppress(*BROKEN_BODY):
                self._read_into(found, key, start, end, etag)
            failures = 0 if len(found) > before else failures + 1
            if failures == READ_ATTEMPTS:
                raise Truncated(
                    f"expected {size} bytes of {key}, found {start + len(found)}",
                    code="object-short",
                    hint="Use another recovery point; this object cannot be read to its end.",
                    key=key,
                )
            if len(found) < wanted:
                time.sleep(min(0.1 * 2**failures, LONGEST_PAUSE_SECONDS))
        return found

    def _read_into(self, found: bytearray, key: str, start: int, end: int, etag: str) -> None:
        span = f"bytes={start + len(found)}-{end - 1}"
        answer = self._client.get_object(**self._address(key), Range=span, IfMatch=etag)
        # Not `with answer["Body"]`: that gives urllib3's own stream, whose errors nobody maps.
        with closing(answer["Body"]) as body:
            while chunk := body.read(CHUNK_BYTES):
                found.extend(chunk)


CHECKSUM_FIELDS = {
    "sha256": "ChecksumSHA256",
    "crc64nvme": "ChecksumCRC64NVME",
    "crc32c": "ChecksumCRC32C",
    "crc32": "ChecksumCRC32",
}
BROKEN_BODY = (HTTPClientError, IncompleteReadError)


class _PartWriter:
    """One object on its way: a single PUT when it stays below one part."""

    def __init__(self, store: S3ObjectStore, key: str) -> None:
        self._store, self._key = store, key
        self._address = store._address(key)
        self._buffer = bytearray()
        self._whole = hashlib.sha256()
        self._size_bytes = 0
        self._parts: list[Future[dict[str, Any]]] = []
        self._upload_id = ""
        self._threads = ThreadPoolExecutor(PART_THREADS)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._whole.update(data)
        self._size_bytes += len(data)
        self._buffer += data
        if len(self._buffer) >= self._part_bytes():
            self._send_part()

    def commit(self) -> StoredObject:
        if not self._parts:
            return self._store.put(self._key, bytes(self._buffer))
        if self._buffer:
            self._send_part()
        parts = [part.result() for part in self._parts]
        with mapped("s3", key=self._key):
            answer = self._store._client.complete_multipart_upload(
                **self._address, UploadId=self._upload_id, MultipartUpload={"Parts": parts}
            )
        self._upload_id = ""
        digests = b"".join(b64decode(part["ChecksumSHA256"]) for part in parts)
        stored = answer.get("ChecksumSHA256") or self._stored_checksum()
        _compare(self._key, stored, hashlib.sha256(digests).digest())
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
        return self._store._part_bytes << (len(self._parts) // PARTS_PER_SIZE)

    def _send_part(self) -> None:
        if not self._upload_id:
            self._begin()
        body, self._buffer = self._buffer, bytearray()
        unsent = len(self._parts) - PART_THREADS
        if unsent >= 0:
            self._parts[unsent].result()
        number = len(self._parts) + 1
        self._parts.append(self._threads.submit(self._upload_part, number, body))

    def _begin(self) -> None:
        with mapped("s3", key=self._key), _mapped_object(self._key):
            answer = self._store._client.create_multipart_upload(
                **self._address, **self._store._at_rest(), ChecksumAlgorithm="SHA256"
            )
        self._upload_id = str(answer["UploadId"])

    def _upload_part(self, number: int, body: bytearray) -> dict[str, Any]:
        checksum = b64encode(hashlib.sha256(body).digest()).decode()
        with mapped("s3", key=self._key), _mapped_object(self._key):
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


def checksums_of(head: Mapping[str, Any]) -> dict[str, str]:
    """S3 makes SHA-256 of an object of several parts from the SHA-256 of each, CRCs either way."""
    parts = re.search(r"-(\d+)\"?$", head["ETag"])
    of_parts = parts is not None and head.get("ChecksumType") != "FULL_OBJECT"
    found = {}
    for name, field in CHECKSUM_FIELDS.items():
        if value := head.get(field, "").partition("-")[0]:
            digits = b64decode(value).hex()
            found[f"{name}-of-parts" if of_parts else name] = (
                f"{digits}-{parts[1]}" if parts and of_parts else digits
            )
    return found


def _compare(key: str, stored: str | None, expected: bytes) -> None:
    """A composite checksum ends with the number of parts ("...=-3"); some servers leave it out."""
    if stored is None or b64decode(stored.partition("-")[0]) != expected:
        raise not_as_sent(key, f"checksum {b64encode(expected).decode()}", str(stored))


@contextmanager
def _mapped_object(key: str) -> Iterator[None]:
    """Raise what S3's answer means for one object; other answers are left to `mapped`."""
    try:
        yield
    except ClientError as error:
        found = _object_error(key, error)
        if found is None:
            raise
        raise found from error


def _object_error(key: str, error: ClientError) -> LeewardError | None:
    code = error_code(error)
    if code == "NoSuchBucket":
        return missing_bucket()
    if code == "KeyTooLongError":
        return key_too_long(key)
    if code in ("NoSuchKey", "404"):
        return missing_object(key)
    if code in ("PreconditionFailed", "412") and error.operation_name == "GetObject":
        return changed_meanwhile(key)
    if code in ("PreconditionFailed", "412", "ConditionalRequestConflict"):
        return exists(key)
    if code in ("BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch"):
        return not_as_sent(key, "the bytes of the request", code)
    return None
