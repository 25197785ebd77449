"""WAL segments read back from an object store, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import zstandard

from chalicelib.errors import Truncated
from chalicelib.plan.wal import WalObject, best_segments, parse_wal_key
from chalicelib.ports import ObjectStore
from chalicelib.recover.database.writing import WRITE_BYTES, reserve, write_all


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


def unpack_segment(store: ObjectStore, item: WalObject, segment_bytes: int, path: Path) -> None:
    """The same into a new file, piece by piece: new memory costs more than unpacking into it.

    Raises as `read_segment`, and OSError.
    """
    item, stored = _get(store, item, segment_bytes)
    reader, buffer = zstandard.ZstdDecompressor().stream_reader(stored), bytearray(WRITE_BYTES)
    written = 0
    with path.open("wb", buffering=0) as file:
        reserve(file, segment_bytes)
        while (size := _fill(reader, buffer, item)) and written + size <= segment_bytes:
            write_all(file, memoryview(buffer)[:size])
            written += size
    if size or written != segment_bytes:
        raise _short(item, f"{written + size} bytes")


def _fill(reader: zstandard.ZstdDecompressionReader, buffer: bytearray, item: WalObject) -> int:
    try:
        return reader.readinto(buffer)
    except zstandard.ZstdError as error:
        raise _short(item, "no zstd data") from error


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
