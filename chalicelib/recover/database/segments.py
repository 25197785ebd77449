"""WAL segments read back from an object store, whole or not at all."""

from __future__ import annotations

import zstandard

from chalicelib.errors import Truncated
from chalicelib.plan.wal import WalObject, best_segments, parse_wal_key
from chalicelib.ports import ObjectStore


def read_segment(store: ObjectStore, item: WalObject, segment_bytes: int) -> bytes:
    """A segment as PostgreSQL wrote it; a partial one is filled up with zeros. Of one that was
    superseded since it was listed, what took its place: it holds all of it.

    Raises Truncated: code "wal-unreadable", when it is not a whole segment of valid zstd;
    "object-missing".
    """
    item, stored = _get(store, item, segment_bytes)
    try:
        content = zstandard.ZstdDecompressor().decompress(stored, max_output_size=segment_bytes)
    except zstandard.ZstdError as error:
        raise _short(item, "no zstd data") from error
    if len(content) != segment_bytes:
        raise _short(item, f"{len(content)} bytes")
    return content


def _get(store: ObjectStore, item: WalObject, segment_bytes: int) -> tuple[WalObject, bytes]:
    """Whoever stores WAL meanwhile may supersede it more than once."""
    while True:
        try:
            return item, store.get(item.key)
        except Truncated:
            longer = _longer(store, item, segment_bytes)
            if longer is None:
                raise
            item = longer


def _longer(store: ObjectStore, item: WalObject, segment_bytes: int) -> WalObject | None:
    """The object that took a partial one's place, which reaches further."""
    rows = store.list(f"wal/{item.timeline:08X}/{item.name}.") if item.partial else ()
    found = (parse_wal_key(row.key, row.modified_at, segment_bytes) for row in rows)
    further = (it for it in found if it and (not it.partial or it.end_lsn > item.end_lsn))
    return next(iter(best_segments(further)), None)


def _short(item: WalObject, found: str) -> Truncated:
    return Truncated(
        f"expected a whole WAL segment in {item.key}, found {found}",
        code="wal-unreadable",
        hint="Copy the segment back from another location, or choose an earlier moment.",
        key=item.key,
    )
