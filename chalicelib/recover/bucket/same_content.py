"""Whether two stored objects hold the same bytes, without reading them where the server knows."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass

from chalicelib.ports.buckets import Bucket, ObjectFacts

# An etag is the MD5 of the bytes only for these. Source: S3 API reference, Object (ETag).
PLAIN_ENCRYPTION = frozenset({"", "AES256"})


@dataclass(frozen=True)
class Place:
    """One object, or one version of it."""

    bucket: Bucket
    key: str
    version_id: str = ""


async def heads_of(one: Place, other: Place) -> tuple[ObjectFacts, ObjectFacts]:
    first, second = await asyncio.gather(
        one.bucket.head(one.key, version_id=one.version_id),
        other.bucket.head(other.key, version_id=other.version_id),
    )
    return first, second


def same_bytes(one: ObjectFacts, other: ObjectFacts) -> bool | None:
    """True or False when the server's facts prove it, None when only reading can tell."""
    if one.size_bytes != other.size_bytes:
        return False
    if one.etag and one.etag == other.etag:
        return True
    names = one.checksums.keys() & other.checksums.keys()
    if one.checksum_type == other.checksum_type and names:
        equal = any(one.checksums[name] == other.checksums[name] for name in names)
        if equal or one.checksum_type == "FULL_OBJECT":
            return equal
    return False if _is_md5(one) and _is_md5(other) else None


def same_description(one: ObjectFacts, other: ObjectFacts) -> bool:
    """Metadata, content headers and the number of tags; their values are asked for (same_tags)."""
    return (
        one.metadata == other.metadata
        and one.headers == other.headers
        and one.tag_count == other.tag_count
    )


async def same_tags(one: Place, other: Place) -> bool:
    """A request for each."""
    first, second = await asyncio.gather(
        one.bucket.tags(one.key, version_id=one.version_id),
        other.bucket.tags(other.key, version_id=other.version_id),
    )
    return first == second


async def read_and_compare(one: Place, other: Place) -> bool:
    """Reads both to their ends, in constant memory."""
    first, second = await asyncio.gather(_digest(one), _digest(other))
    return first == second


def _is_md5(facts: ObjectFacts) -> bool:
    return "-" not in facts.etag and facts.encryption in PLAIN_ENCRYPTION


async def _digest(place: Place) -> bytes:
    digest = hashlib.sha256()
    async for chunk in place.bucket.get(place.key, version_id=place.version_id):
        digest.update(chunk)
    return digest.digest()
