"""The bucket of the status page: the `StatusStore` port on S3."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

from chalicelib.adapters.aws_errors import error_code, mapped
from chalicelib.adapters.s3.store import S3ObjectStore

# As many as read at once; see incidents/status/desk.py.
READERS = 16
# As long as a browser or a CDN may keep a page: less than the minute after which it is new.
KEPT = "public, max-age=30"
# S3's answers to a conditional write whose object was written or removed meanwhile.
# Source: "How to prevent object overwrites with conditional writes" in its user guide.
OTHERS_WERE_FIRST = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey"})


def connect_status(region: str) -> Any:
    """A client that gives up within the time that one message has, so that the outbox tries again.

    `region`: "" for this function's own.
    """
    import boto3
    from botocore.config import Config

    config = Config(
        retries={"mode": "standard", "total_max_attempts": 2},
        connect_timeout=3,
        read_timeout=8,
        max_pool_connections=READERS,
    )
    return boto3.client("s3", region_name=region or None, config=config)


class StatusBucket:
    """Pages go with their media type; a browser would download them as files otherwise."""

    def __init__(self, client: Any, bucket: str) -> None:
        self._client, self._bucket = client, bucket
        self._objects = S3ObjectStore(client, bucket)

    def keys(self, prefix: str) -> tuple[str, ...]:
        return tuple(row.key for row in self._objects.list(prefix))

    def read(self, key: str) -> bytes:
        return self._objects.get(key)

    def note(self, key: str, data: bytes) -> None:
        self._objects.put(key, data)

    def read_tagged(self, key: str) -> tuple[bytes, str] | None:
        with mapped("s3", key=key):
            try:
                found = self._client.get_object(Bucket=self._bucket, Key=key)
            except ClientError as error:
                if error_code(error) != "NoSuchKey":
                    raise
                return None
            return found["Body"].read(), found["ETag"]

    def replace(self, key: str, data: bytes, *, tag: str) -> bool:
        condition = {"IfMatch": tag} if tag else {"IfNoneMatch": "*"}
        with mapped("s3", key=key):
            try:
                self._client.put_object(Bucket=self._bucket, Key=key, Body=data, **condition)
            except ClientError as error:
                if error_code(error) not in OTHERS_WERE_FIRST:
                    raise
                return False
        return True

    def show(self, key: str, data: bytes, media_type: str) -> None:
        with mapped("s3", key=key):
            self._client.put_object(
                Bucket=self._bucket,
                Key=key,
                Body=data,
                ContentType=media_type,
                CacheControl=KEPT,
            )
