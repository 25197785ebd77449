"""S3 Object Lock on the current versions below one prefix of a bucket: read, and only extended."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Literal

from botocore.exceptions import ClientError

from chalicelib.adapters.aws_errors import error_code, mapped
from chalicelib.errors import NotReady, Truncated

LockMode = Literal["COMPLIANCE", "GOVERNANCE"]
# S3's word for an object without a lock, and SeaweedFS's.
NOT_LOCKED = frozenset({"NoSuchObjectLockConfiguration", "ObjectLockConfigurationNotFoundError"})
# S3's for a bucket that was made without Object Lock.
NO_LOCKS_HERE = frozenset({"InvalidRequest"})


class S3Locks:
    """The port ObjectLocks. `prefix` is empty or ends with a slash; `client` is boto3's.

    In COMPLIANCE mode nobody shortens a lock, not even the account's root; in GOVERNANCE mode
    whoever has s3:BypassGovernanceRetention does.
    """

    def __init__(
        self, client: Any, bucket: str, prefix: str = "", *, mode: LockMode = "COMPLIANCE"
    ) -> None:
        self._client, self._bucket, self._prefix = client, bucket, prefix
        self._mode = mode

    def locked_until(self, key: str) -> datetime | None:
        with mapped("s3", key=key), _mapped_lock(key):
            try:
                found = self._client.get_object_retention(**self._address(key))
            except ClientError as error:
                if error_code(error) in NOT_LOCKED | NO_LOCKS_HERE:
                    return None
                raise
        until: datetime = found["Retention"]["RetainUntilDate"]
        return until.astimezone(UTC)

    def extend(self, key: str, until: datetime) -> bool:
        locked_until = self.locked_until(key)
        if locked_until is not None and locked_until >= until:
            return False
        retention = {"Mode": self._mode, "RetainUntilDate": until}
        with mapped("s3", key=key), _mapped_lock(key):
            self._client.put_object_retention(**self._address(key), Retention=retention)
        return True

    def _address(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + key}


@contextmanager
def _mapped_lock(key: str) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        code = error_code(error)
        if code in ("NoSuchKey", "404", "MethodNotAllowed"):
            raise Truncated(
                f"expected an object {key} to lock, found none",
                code="object-missing",
                hint="look whether somebody deleted it; its versions may still be there",
                key=key,
            ) from error
        if code in NO_LOCKS_HERE:
            raise NotReady(
                f"expected a bucket with Object Lock for {key}, found one without",
                code="no-object-lock",
                hint="Object Lock is chosen when a bucket is made: copy to one that has it",
                key=key,
            ) from error
        raise
