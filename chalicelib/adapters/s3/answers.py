"""What S3's answers about one object mean: its checksums, and its refusals."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from chalicelib.adapters.http.text import parse_date
from chalicelib.adapters.refusals import (
    access_denied,
    changed_meanwhile,
    exists,
    key_too_long,
    missing_bucket,
    missing_object,
    not_as_sent,
)
from chalicelib.adapters.s3.xml import parse_at
from chalicelib.errors import LeewardError
from chalicelib.ports import StoredFacts
from chalicelib.ports.lasting import upload_gone

CHECKSUMS = ("sha256", "crc64nvme", "crc32c", "crc32")
NOT_AS_SENT = frozenset({"BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch"})


def facts_of(found: Mapping[str, str]) -> StoredFacts:
    """What the headers of a HEAD or a GET tell."""
    until = found.get("x-amz-object-lock-retain-until-date", "")
    return StoredFacts(
        size_bytes=int(found["Content-Length"]),
        modified_at=parse_date(found["Last-Modified"]),
        checksums=checksums_of(found),
        version=version_of(found),
        locked_until=parse_at(until) if until else None,
    )


def version_of(found: Mapping[str, str]) -> str:
    return found.get("x-amz-version-id", "") or found["ETag"].strip('"')


def checksums_of(found: Mapping[str, str]) -> dict[str, str]:
    """S3 makes SHA-256 of an object of several parts from the SHA-256 of each, CRCs either way."""
    parts = re.search(r"-(\d+)\"?$", found["ETag"])
    of_parts = parts is not None and found.get("x-amz-checksum-type", "") != "FULL_OBJECT"
    checksums = {}
    for name in CHECKSUMS:
        if value := found.get(f"x-amz-checksum-{name}", "").partition("-")[0]:
            digits = b64decode(value).hex()
            checksums[f"{name}-of-parts" if of_parts else name] = (
                f"{digits}-{parts[1]}" if parts and of_parts else digits
            )
    return checksums


def compare(key: str, stored: str, expected: bytes) -> None:
    """A composite checksum ends with the number of parts ("...=-3"); some servers leave it out."""
    if not stored or b64decode(stored.partition("-")[0]) != expected:
        raise not_as_sent(key, f"checksum {b64encode(expected).decode()}", stored or "none")


@contextmanager
def in_our_words(key: str, *, creating: bool = False) -> Iterator[None]:
    """What S3 refused, said of Leeward's own key as every other store says it.

    `creating`: the request demanded that there is no object.
    """
    try:
        yield
    except LeewardError as error:
        found = _object_error(key, error, creating)
        if found is None:
            raise
        raise found from error


def _object_error(key: str, error: LeewardError, creating: bool) -> LeewardError | None:
    code, said = error.instance_code, str(error.context.get("s3_code", ""))
    if code == "no-bucket":
        return missing_bucket()
    if said == "KeyTooLongError":
        return key_too_long(key)
    if code == "object-missing":
        return missing_object(key)
    if code == "upload-missing":
        return upload_gone(f"none of {key} under its id")
    if said in NOT_AS_SENT:
        return not_as_sent(key, "the bytes of the request", said)
    if creating and (code == "object-changed" or said == "ConditionalRequestConflict"):
        return exists(key)
    if code == "object-changed":
        return changed_meanwhile(key)
    if code == "credentials-rejected" and error.context.get("status") == 403:
        return access_denied("s3", key)
    return None
