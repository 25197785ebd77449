"""What a replica's row says of the object that an inventory names: pure.

A store of another cloud keeps one version of a key. What Leeward noted with the copy tells which
one that is, whenever it was written, and that nobody else has written there since. Where a store
tells no notes, size and time have to do.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

from chalicelib.plan.copy_notes import NO_COPY, CopyNote
from chalicelib.plan.inventory import InventoryEntry
from chalicelib.plan.records import RecoveryPoint
from chalicelib.verify.copies.findings import Finding, in_bytes
from chalicelib.verify.copies.ledger import CLOCKS_DIFFER
from chalicelib.verify.copies.replica_contents import ReplicaRow

NEWER: Literal["newer"] = "newer"
# Another cloud is brought up to date once a night, the inventory names what events brought since.
A_NIGHT = timedelta(days=1)
# A store may note what it was told only after it has all bytes of a large object.
SETTLES = timedelta(minutes=1)


def judge_row(
    entry: InventoryEntry, row: ReplicaRow, point: RecoveryPoint, *, versioned: bool, now: datetime
) -> Finding | Literal["newer"] | None:
    """None: it is as the entry says, as far as that can be told without reading. "newer": the
    inventory says nothing of it.

    Args:
        versioned: the row is of the very version that the entry names.
    """
    if versioned:
        return _judge_facts(entry, row, point)
    if row.noted == NO_COPY:
        if row.modified_at > now - SETTLES:
            return NEWER
        found = f"{in_bytes(row.size_bytes)} that are no copy made by Leeward"
        return Finding("overwritten", entry.key, point.id, tell_entry(entry), found)
    if row.noted is None or not (entry.sha256 or entry.source):
        return NEWER if row.modified_at > point.taken_at else _judge_facts(entry, row, point)
    if _is_same(entry, row.noted):
        return _judge_facts(entry, row, point)
    came_late = entry.modified_at > point.taken_at - A_NIGHT
    if came_late or row.modified_at > point.taken_at - CLOCKS_DIFFER:
        return NEWER
    found = f"a copy of etag {row.noted.etag}, sha-256 {row.noted.sha256}"
    return Finding("damaged", entry.key, point.id, tell_entry(entry), found)


def tell_entry(entry: InventoryEntry) -> str:
    version = f", version {entry.version}" if entry.version else ""
    known = f", sha-256 {entry.sha256}" if entry.sha256 else ""
    return f"{entry.size_bytes} bytes{version}{known}"


def _is_same(entry: InventoryEntry, noted: CopyNote) -> bool:
    """The content decides where it is known: the same may have come under another ETag."""
    if entry.sha256:
        return noted.sha256 == entry.sha256
    return entry.source is not None and noted.etag == entry.source.etag


def _judge_facts(entry: InventoryEntry, row: ReplicaRow, point: RecoveryPoint) -> Finding | None:
    etags_differ = bool(row.etag and entry.etag and row.etag != entry.etag)
    if row.size_bytes == entry.size_bytes and not etags_differ:
        return None
    code = "truncated" if row.size_bytes < entry.size_bytes else "damaged"
    found = f"{row.size_bytes} bytes, {row.etag or 'no etag'}"
    return Finding(code, entry.key, point.id, tell_entry(entry), found)
