"""What a bucket's configuration does to its history, and objects asked back from archives.

Rare calls, so they go through boto3; the versions themselves are read by s3_bucket.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from botocore.exceptions import ClientError

from chalicelib.adapters.aws_codes import DENIED, NONE_SET, NOT_OFFERED
from chalicelib.adapters.aws_errors import error_code, http_status, mapped
from chalicelib.errors import NotReady
from chalicelib.ports.bucket_rules import BucketRules, Expiry

THREADS = 16
ON_ITS_WAY = frozenset({"RestoreAlreadyInProgress"})


class S3Control:
    """The port BucketControl. `client` is boto3's, of the bucket's region."""

    def __init__(self, client: Any, bucket: str) -> None:
        self._client, self._bucket = client, bucket

    def rules(self) -> BucketRules:
        with mapped("s3", bucket=self._bucket):
            try:
                found = self._client.get_bucket_versioning(Bucket=self._bucket)
            except ClientError as error:
                if error_code(error) != "NoSuchBucket":
                    raise
                raise NotReady(
                    f"expected a bucket {self._bucket}, found none",
                    code="no-bucket",
                    hint="Is the name right, and the account the one that owns it?",
                ) from error
            unread: list[str] = []
            lifecycle = self._read(
                self._client.get_bucket_lifecycle_configuration, "lifecycle rules", unread
            )
            lock = self._read(self._client.get_object_lock_configuration, "Object Lock", unread)
        return BucketRules(
            versioning=found.get("Status", ""),
            mfa_delete=found.get("MFADelete") == "Enabled",
            expiries=tuple(_expiries(lifecycle)),
            lock_days=_lock_days(lock),
            unread=tuple(unread),
        )

    def thaw(self, versions: Sequence[tuple[str, str]], *, days: int) -> dict[tuple[str, str], str]:
        with ThreadPoolExecutor(THREADS) as threads:
            codes = list(threads.map(lambda pair: self._thaw_one(*pair, days=days), versions))
        return {pair: code for pair, code in zip(versions, codes, strict=True) if code}

    def _thaw_one(self, key: str, version_id: str, *, days: int) -> str:
        chosen = {"VersionId": version_id} if version_id else {}
        request = {"Days": days, "GlacierJobParameters": {"Tier": "Standard"}}
        with mapped("s3", bucket=self._bucket, key=key):
            try:
                self._client.restore_object(
                    Bucket=self._bucket, Key=key, RestoreRequest=request, **chosen
                )
            except ClientError as error:
                if error_code(error) in ON_ITS_WAY:
                    return ""
                if http_status(error) >= 500:
                    raise
                return error_code(error)
        return ""

    def _read(self, call: Callable[..., Any], what: str, unread: list[str]) -> dict[str, Any]:
        try:
            found: dict[str, Any] = call(Bucket=self._bucket)
        except ClientError as error:
            code = error_code(error)
            if code not in NONE_SET | NOT_OFFERED | DENIED:
                raise
            if code not in NONE_SET:
                unread.append(what)
            return {}
        return found


def _expiries(lifecycle: dict[str, Any]) -> list[Expiry]:
    """Rules that are on; one that also filters by tag or size removes some below its prefix."""
    return [
        Expiry(_prefix(rule), int(rule["NoncurrentVersionExpiration"]["NoncurrentDays"]))
        for rule in lifecycle.get("Rules", ())
        if rule.get("Status") == "Enabled"
        and "NoncurrentDays" in rule.get("NoncurrentVersionExpiration", {})
    ]


def _prefix(rule: dict[str, Any]) -> str:
    chosen = rule.get("Filter", {})
    return str(
        chosen.get("Prefix") or chosen.get("And", {}).get("Prefix") or rule.get("Prefix", "")
    )


def _lock_days(lock: dict[str, Any]) -> int:
    found = lock.get("ObjectLockConfiguration", {}).get("Rule", {}).get("DefaultRetention", {})
    return int(found.get("Days", 0)) or 365 * int(found.get("Years", 0))
