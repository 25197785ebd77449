"""WAL segments read back from an object store, whole or not at all."""

from __future__ import annotations

import zstandard

from chalicelib.errors import Truncated
from chalicelib.plan.wal import WalObject
from chalicelib.ports import ObjectStore


def read_segment(store: ObjectStore, item: WalObject, segment_bytes: int) -> bytes:
    """A segment as PostgreSQL wrote it; a partial one is filled up with zeros.

    Raises Truncated (code "wal-unreadable") when it is not a whole segment of valid zstd.
    """
    try:
        content = zstandard.ZstdDecompressor().decompress(
            store.get(item.key), max_output_size=segment_bytes
        )
    except zstandard.ZstdError as error:
        raise _short(item, "no zstd data") from error
    if len(content) != segment_bytes:
        raise _short(item, f"{len(content)} bytes")
    return content


def _short(item: WalObject, found: str) -> Truncated:
    return Truncated(
        f"expected a whole WAL segment in {item.key}, found {found}",
        code="wal-unreadable",
        hint="Copy the segment back from another location, or choose an earlier moment.",
        key=item.key,
    )
