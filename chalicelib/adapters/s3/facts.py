"""What S3's headers say of one object."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from chalicelib.adapters.http.text import parse_date
from chalicelib.adapters.s3.xml import parse_at
from chalicelib.ports.buckets import ObjectFacts, Written

# Headers that a user gave the object and that a copy must have too.
CONTENT_HEADERS = (
    "Cache-Control",
    "Content-Disposition",
    "Content-Encoding",
    "Content-Language",
    "Content-Type",
    "Expires",
    "x-amz-website-redirect-location",
)
CHECKSUMS = ("CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256")
META = "x-amz-meta-"


def read_facts(key: str, headers: Mapping[str, str]) -> ObjectFacts:
    retain_until = headers.get("x-amz-object-lock-retain-until-date", "")
    return ObjectFacts(
        key=key,
        size_bytes=int(headers["Content-Length"]),
        etag=headers.get("ETag", "").strip('"'),
        modified_at=_modified_at(headers),
        version_id=headers.get("x-amz-version-id", ""),
        storage_class=headers.get("x-amz-storage-class", "STANDARD"),
        metadata={
            name.lower()[len(META) :]: value
            for name, value in headers.items()
            if name.lower().startswith(META)
        },
        headers={name: headers[name] for name in CONTENT_HEADERS if name in headers},
        checksums=read_checksums(headers),
        checksum_type=headers.get("x-amz-checksum-type", ""),
        encryption=headers.get("x-amz-server-side-encryption", ""),
        kms_key_id=headers.get("x-amz-server-side-encryption-aws-kms-key-id", ""),
        lock_mode=headers.get("x-amz-object-lock-mode", ""),
        retain_until_at=parse_at(retain_until) if retain_until else None,
        legal_hold=headers.get("x-amz-object-lock-legal-hold", "") == "ON",
        tag_count=int(headers.get("x-amz-tagging-count", "0")),
        restore=headers.get("x-amz-restore", ""),
    )


def read_checksums(headers: Mapping[str, str]) -> dict[str, str]:
    named = {name: headers.get(f"x-amz-checksum-{name.lower()}", "") for name in CHECKSUMS}
    return {name: value for name, value in named.items() if value}


def read_written(key: str, headers: Mapping[str, str]) -> Written:
    return Written(
        key,
        headers.get("ETag", "").strip('"'),
        headers.get("x-amz-version-id", ""),
        read_checksums(headers),
    )


def _modified_at(headers: Mapping[str, str]) -> datetime:
    return parse_date(headers["Last-Modified"]).astimezone(UTC)
