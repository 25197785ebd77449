"""Which versions of a replica its inventories name, by what the backup bucket itself still has.

Asked are all inventories whose bytes are there: of points that are kept, held or quarantined, of a
run that has written no manifest yet, and of points that a prune removed, for as long as the backup
bucket's own rule leaves their noncurrent versions, so that a prune can be undone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from hashlib import blake2b

import zstandard

from chalicelib.errors import CheckFailed, Damaged, Tampered
from chalicelib.plan.inventory import INVENTORY_ENDING
from chalicelib.plan.manifest import POINTS
from chalicelib.plan.records import PointStanding
from chalicelib.ports.buckets import Bucket, VersionRow

DIGEST_BYTES = 8


class NamedVersions:
    """A set of (key, version id) in 8 bytes each: two that share a digest are both kept.

    `inventories`: objects that were read; a point has one for each 100,000 keys.
    """

    def __init__(self) -> None:
        self._digests: set[int] = set()
        self.inventories = 0

    def add(self, key: str, version_id: str) -> None:
        self._digests.add(_digest(key, version_id))

    def has(self, key: str, version_id: str) -> bool:
        return _digest(key, version_id) in self._digests


async def read_named(
    backups: Bucket,
    component: str,
    standings: Iterable[PointStanding],
    *,
    progress: Callable[[int], None] = lambda _: None,
) -> NamedVersions:
    """What all inventories of a component's replica name; each is read whole.

    Args:
        backups: the backup bucket, of which all versions below the component's points are asked.
        standings: what the catalogue knows: each of its inventories must be there as it was taken.
        progress: told how many inventories were read.
    Raises:
        CheckFailed: code "inventory-missing".
        Damaged, Tampered: code "inventory-unreadable"; an inventory is not what it was.
    """
    named, missing = NamedVersions(), _digests_of(component, standings)
    async with aclosing(backups.list_versions(f"{component}/{POINTS}")) as rows:
        async for row in rows:
            if row.is_marker or not row.key.endswith(INVENTORY_ENDING):
                continue
            found = await _read(backups, row, named)
            if row.is_latest and missing.pop(row.key, found) != found:
                raise Tampered(
                    f"expected {row.key} as its manifest has it, found another SHA-256",
                    code="inventory-unreadable",
                    hint="verify the copies: `leeward verify` repairs it from another location",
                )
            progress(named.inventories)
    if missing:
        raise CheckFailed(
            f"expected the inventories of every point, found none at {min(missing)}",
            code="inventory-missing",
            hint="verify the copies: `leeward verify` repairs it from another location",
        )
    return named


def _digests_of(component: str, standings: Iterable[PointStanding]) -> dict[str, str]:
    return {
        f"{component}/{it.key}": it.sha256
        for standing in standings
        for it in standing.point.objects
        if it.key.endswith(INVENTORY_ENDING)
    }


async def _read(backups: Bucket, row: VersionRow, named: NamedVersions) -> str:
    """Its lines into `named`; the SHA-256 of its bytes."""
    digest, unpacker, rest = hashlib.sha256(), zstandard.ZstdDecompressor().decompressobj(), b""
    chunks: AsyncGenerator[bytes, None] = backups.get(row.key, version_id=row.version_id)
    try:
        async with aclosing(chunks):
            async for chunk in chunks:
                digest.update(chunk)
                *lines, rest = (rest + unpacker.decompress(chunk)).split(b"\n")
                for line in lines:
                    fields = json.loads(line)
                    named.add(fields["key"], fields.get("version", ""))
    except (zstandard.ZstdError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unreadable(row) from error
    if rest or not unpacker.eof or unpacker.unused_data:
        raise _unreadable(row)
    named.inventories += 1
    return digest.hexdigest()


def _unreadable(row: VersionRow) -> Damaged:
    return Damaged(
        f"expected {row.key} (version {row.version_id}) to be an inventory, found something else",
        code="inventory-unreadable",
        hint="verify the copies; what an older version of it names cannot be told until it expires",
    )


def _digest(key: str, version_id: str) -> int:
    named = f"{version_id} {key}".encode()
    return int.from_bytes(blake2b(named, digest_size=DIGEST_BYTES).digest(), "big")
