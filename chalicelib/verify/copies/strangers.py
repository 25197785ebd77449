"""Objects of a replica that somebody other than Leeward wrote: two inventories side by side.

A sync takes an object of the replica for a copy when it is younger than the bucket's own, and the
next inventory then names what a stranger wrote as if it were right. What betrays it is the bucket:
there it is the same version in both inventories, and in the replica it is another content.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from chalicelib.plan.inventory import InventoryEntry
from chalicelib.verify.copies.findings import Finding


def find_overwritten(
    before: Iterable[InventoryEntry], now: Iterable[InventoryEntry], *, point_id: str
) -> Iterator[Finding]:
    """Pure, and in constant memory.

    Args:
        before, now: inventories of the same replica, each in byte order of the key.
        point_id: of the later one.
    """
    older = iter(before)
    old = next(older, None)
    for entry in now:
        while old is not None and old.key < entry.key:
            old = next(older, None)
        if old is not None and old.key == entry.key and _is_overwritten(old, entry):
            yield Finding(
                "overwritten",
                entry.key,
                point_id,
                f"sha-256 {old.sha256}, as the bucket's version {_version(old)} was copied",
                f"sha-256 {entry.sha256 or 'none'}, version {entry.version} of the replica",
            )


def _is_overwritten(before: InventoryEntry, now: InventoryEntry) -> bool:
    """Every copy of Leeward's has a digest, unless it is too large; of that nothing is told."""
    if before.source is None or before.source != now.source:
        return False
    return bool(before.sha256) and before.sha256 != now.sha256


def _version(entry: InventoryEntry) -> str:
    return entry.source.version if entry.source else ""
