"""Objects below one prefix of an S3 bucket, encrypted at rest, each checked by S3 itself.

A large object is sent in parts by a few threads while it is produced; memory is the part size
times the number of threads plus two. S3 refuses a part whose SHA-256 is not the one sent along,
and the checksum of the whole is compared when it is put together.
"""

from __future__ import annotations

import hashlib
import time
from base64 import b64encode
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from functools import partial
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, HTTPClientError, IncompleteReadError

from chalicelib.adapters.aws_errors import error_code, mapped
from chalicelib.adapters.read_ahead import CHUNK_BYTES, MIB, RANGE_BYTES, read_ranges
from chalicelib.adapters.refusals import changed_meanwhile
from chalicelib.adapters.s3.answers import checksums_of, compare, mapped_object
from chalicelib.adapters.s3.part_copies import copy_in_parts, remove_uploads
from chalicelib.adapters.s3.writer import LastingPartWriter, PartWriter, abandon
from chalicelib.adapters.sealing.key_names import KeyNames
from chalicelib.errors import Truncated
from chalicelib.plan.records import StoredObject
from chalicelib.ports import Leftover, Listed, StoredFacts

PART_BYTES = 16 * MIB
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
        copy_bytes: int = COPY_BYTES,
    ) -> None:
        self._client = client
        self._bucket = bucket
        self._names = KeyNames(prefix)
        self._kms_key_id = kms_key_id
        self._part_bytes = part_bytes
        self._range_bytes = range_bytes
        self._copy_bytes = copy_bytes

    @property
    def encryption(self) -> str:
        if self._kms_key_id:
            return f"SSE-KMS {self._kms_key_id}"
        return "the bucket's own default (S3 encrypts with AES-256 at least)"

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> StoredObject:
        digest = hashlib.sha256(data)
        condition = {"IfNoneMatch": "*"} if if_absent else {}
        with mapped("s3", key=key), mapped_object(key):
            answer = self._client.put_object(
                **self._address(key), **self._at_rest(), **condition,
                Body=data, ChecksumAlgorithm="SHA256",
                ChecksumSHA256=b64encode(digest.digest()).decode(),
            )  # fmt: skip
        compare(key, answer.get("ChecksumSHA256"), digest.digest())
        return StoredObject(key, len(data), digest.hexdigest())

    @contextmanager
    def open_writer(self, key: str) -> Iterator[PartWriter]:
        writer = PartWriter(self, key)
        try:
            yield writer
        finally:
            writer.close()

    @contextmanager
    def open_lasting(self, key: str, checkpoint: bytes = b"") -> Iterator[LastingPartWriter]:
        writer = LastingPartWriter(self, key, checkpoint)
        try:
            yield writer
        finally:
            writer.close()

    def abandon(self, key: str, checkpoint: bytes) -> None:
        abandon(self, key, checkpoint)

    def remove_uploads(self, before: datetime, *, but: Collection[str]) -> tuple[Leftover, ...]:
        return remove_uploads(self, before, but)

    def get(self, key: str) -> bytes:
        with mapped("s3", key=key), mapped_object(key), suppress(*BROKEN_BODY):
            return bytes(self._client.get_object(**self._address(key))["Body"].read())
        return b"".join(self.read(key))

    def read(self, key: str) -> Iterator[bytes]:
        found = self._head(key)
        fetch = partial(self._range, key, size=found["ContentLength"], etag=found["ETag"])
        yield from read_ranges(found["ContentLength"], fetch, range_bytes=self._range_bytes)

    def read_on(self, key: str, start: int, *, version: str) -> Iterator[bytes]:
        found = self._head(key)
        if version != (found.get("VersionId") or found["ETag"].strip('"')):
            raise changed_meanwhile(key)
        size, etag = found["ContentLength"], found["ETag"]
        fetch = partial(self._range, key, size=size, etag=etag)
        yield from read_ranges(size, fetch, range_bytes=self._range_bytes, begin=start)

    def copy_from(
        self,
        source: object,
        key: str,
        *,
        vouched: str = "",
        over: Callable[[], bool] = lambda: False,
    ) -> StoredObject | None:
        """From another bucket of S3, in any region; up to 5 GiB S3 computes the SHA-256 anew.

        Source: "CopyObject" in the API reference.
        """
        if not isinstance(source, S3ObjectStore):
            return None
        size = source.facts(key).size_bytes
        if size > self._copy_bytes:
            done = bool(vouched) and copy_in_parts(source, self, key, over=over)
            return StoredObject(key, size, vouched) if done else None
        with mapped("s3", key=key), mapped_object(key):
            self._client.copy_object(
                **self._address(key), **self._at_rest(),
                CopySource=source._address(key), ChecksumAlgorithm="SHA256",
            )  # fmt: skip
        found = self.facts(key).checksums.get("sha256")
        return None if found is None else StoredObject(key, size, found)

    def list(self, prefix: str = "") -> Iterator[Listed]:
        return self._names.merged(prefix, self._rows)

    def delete(self, key: str) -> None:
        with mapped("s3", key=key), mapped_object(key):
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
        with mapped("s3", prefix=prefix), mapped_object(prefix):
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
        with mapped("s3", key=key), mapped_object(key):
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
            with mapped("s3", key=key), mapped_object(key), suppress(*BROKEN_BODY):
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


BROKEN_BODY = (HTTPClientError, IncompleteReadError)
