"""What S3's answers about one object mean: its checksums, and its refusals."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import ClientError

from chalicelib.adapters.aws_errors import error_code
from chalicelib.adapters.refusals import (
    changed_meanwhile,
    exists,
    key_too_long,
    missing_bucket,
    missing_object,
    not_as_sent,
)
from chalicelib.errors import LeewardError
from chalicelib.ports.lasting import upload_gone

CHECKSUM_FIELDS = {
    "sha256": "ChecksumSHA256",
    "crc64nvme": "ChecksumCRC64NVME",
    "crc32c": "ChecksumCRC32C",
    "crc32": "ChecksumCRC32",
}


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


def compare(key: str, stored: str | None, expected: bytes) -> None:
    """A composite checksum ends with the number of parts ("...=-3"); some servers leave it out."""
    if stored is None or b64decode(stored.partition("-")[0]) != expected:
        raise not_as_sent(key, f"checksum {b64encode(expected).decode()}", str(stored))


@contextmanager
def mapped_object(key: str) -> Iterator[None]:
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
    if code == "NoSuchUpload":
        return upload_gone(f"none of {key} under its id")
    if code in ("BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch"):
        return not_as_sent(key, "the bytes of the request", code)
    return None
