"""Objects below one prefix of an S3 bucket, encrypted at rest, each checked by S3 itself.

A large object is sent in parts by a few threads while it is produced; memory is the part size
times the number of threads plus one. S3 refuses a part whose SHA-256 is not the one sent along,
and the checksum of the whole is compared when it is put together. Nothing of this needs boto3.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from chalicelib.adapters.read_ahead import MIB, RANGE_BYTES
from chalicelib.adapters.s3.access import S3Access, access_of
from chalicelib.adapters.s3.answers import compare, facts_of
from chalicelib.adapters.s3.calls import Object, ObjectCalls, at_rest
from chalicelib.adapters.s3.direct import S3Direct
from chalicelib.adapters.s3.reader import TELL, ObjectReader
from chalicelib.adapters.sealing.key_names import KeyNames
from chalicelib.plan.records import StoredObject
from chalicelib.ports import Leftover, Listed, StoredFacts

if TYPE_CHECKING:
    from chalicelib.adapters.s3.writer import LastingPartWriter, PartWriter

# The smallest that S3 takes: a backup's peak of memory is some of these, whatever its size.
PART_BYTES = 5 * MIB
# The largest object that S3 copies in one request.
COPY_BYTES = 5 << 30


def connect_s3(
    region: str | None = None, endpoint_url: str | None = None, *, attempts: int = 9
) -> Any:
    """A client of boto3's, for what is not about objects, that rides out about a minute of 503,
    SlowDown and resets.

    The region and the endpoint are those of the environment when they are None.

    Bodies carry a SHA-256 checksum that S3 verifies, so they are not hashed again for the
    signature.
    """
    import boto3
    from botocore.config import Config

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
    """The port ObjectStore on S3. `prefix` is empty or ends with a slash.

    `s3`: where it is and who asks, or a client of boto3's that knows both. `s3_key`: new objects
    are encrypted by S3's own key, for services that read no other.
    """

    def __init__(
        self,
        s3: S3Access | Any,
        bucket: str,
        prefix: str = "",
        *,
        kms_key_id: str | None = None,
        s3_key: bool = False,
        part_bytes: int = PART_BYTES,
        range_bytes: int = RANGE_BYTES,
        copy_bytes: int = COPY_BYTES,
    ) -> None:
        access = s3 if isinstance(s3, S3Access) else access_of(s3)
        direct = S3Direct(access.place(bucket), access.credentials, access.patience)
        self.bucket = bucket
        self.calls = ObjectCalls(direct, at_rest(kms_key_id, s3_key=s3_key))
        self.part_bytes = part_bytes
        self.names = KeyNames(prefix)
        self._reader = ObjectReader(direct, range_bytes)
        self._kms_key_id, self._s3_key = kms_key_id, s3_key
        self._copy_bytes = copy_bytes

    @property
    def encryption(self) -> str:
        if self._s3_key:
            return "SSE-S3"
        if self._kms_key_id:
            return f"SSE-KMS {self._kms_key_id}"
        return "the bucket's own default (S3 encrypts with AES-256 at least)"

    def put(
        self, key: str, data: bytes | bytearray | memoryview, *, if_absent: bool = False
    ) -> StoredObject:
        digest = hashlib.sha256(data)
        told = self.calls.put(self.object(key), data, digest.digest(), if_absent=if_absent)
        compare(key, told, digest.digest())
        return StoredObject(key, len(data), digest.hexdigest())

    @contextmanager
    def open_writer(self, key: str) -> Iterator[PartWriter]:
        from chalicelib.adapters.s3.writer import PartWriter

        writer = PartWriter(self, key)
        try:
            yield writer
        finally:
            writer.close()

    @contextmanager
    def open_lasting(self, key: str, checkpoint: bytes = b"") -> Iterator[LastingPartWriter]:
        from chalicelib.adapters.s3.writer import LastingPartWriter

        writer = LastingPartWriter(self, key, checkpoint)
        try:
            yield writer
        finally:
            writer.close()

    def abandon(self, key: str, checkpoint: bytes) -> None:
        from chalicelib.adapters.s3.writer import abandon

        abandon(self, key, checkpoint)

    def remove_uploads(self, before: datetime, *, but: Collection[str]) -> tuple[Leftover, ...]:
        from chalicelib.adapters.s3.part_copies import remove_uploads

        return remove_uploads(self, before, but)

    def get(self, key: str) -> bytes:
        return self._reader.get(self.object(key))

    def read(self, key: str) -> Iterator[bytes]:
        return self._reader.read(self.object(key))

    def read_on(self, key: str, start: int, *, version: str) -> Iterator[bytes]:
        return self._reader.read_on(self.object(key), start, version)

    def feed(self, key: str, take: Callable[[memoryview], None]) -> StoredFacts:
        return self._reader.feed(self.object(key), take)

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
            from chalicelib.adapters.s3.part_copies import copy_in_parts

            done = bool(vouched) and copy_in_parts(source, self, key, over=over)
            return StoredObject(key, size, vouched) if done else None
        self.calls.copy(source.object(key), source.bucket, self.object(key))
        found = self.facts(key).checksums.get("sha256")
        return None if found is None else StoredObject(key, size, found)

    def list(self, prefix: str = "") -> Iterator[Listed]:
        return self.names.merged(prefix, self.calls.rows)

    def delete(self, key: str) -> None:
        self.calls.delete(self.object(key))

    def facts(self, key: str) -> StoredFacts:
        return facts_of(self.head(key, TELL))

    def head(self, key: str, headers: Mapping[str, str]) -> Mapping[str, str]:
        """What S3 says of an object in its headers."""
        return self._reader.head(self.object(key), headers)

    def object(self, key: str) -> Object:
        """Raises as `KeyNames.name`."""
        return Object(key, self.names.name(key))
