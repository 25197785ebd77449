"""What a replica of a bucket holds, in another bucket or in the store of another cloud."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import IO, NamedTuple, Protocol, cast

import zstandard

from chalicelib.errors import Damaged, Truncated
from chalicelib.plan.copy_notes import CopyNote, read_note
from chalicelib.plan.inventory import InventoryEntry, read_lines
from chalicelib.plan.object_names import NAMES, is_long, key_of_name, name_of_key
from chalicelib.plan.records import RecoveryPoint
from chalicelib.ports import Listed, ObjectStore, ReadsOn, StoredFacts, notes_of
from chalicelib.ports.buckets import Bucket

PIECE_BYTES = 1 << 20
ROWS_AT_ONCE = 1000


class ReplicaRow(NamedTuple):
    """One version of an object. `etag` and `version` are "" where the store tells none.

    `noted`: of which object it was copied, None where nothing tells.
    """

    key: str
    size_bytes: int
    modified_at: datetime
    version: str = ""
    etag: str = ""
    noted: CopyNote | None = None


class ReplicaContents(Protocol):
    """`keeps_versions`: what an inventory names stays there whatever is written later."""

    @property
    def keeps_versions(self) -> bool: ...

    def rows(self) -> AsyncGenerator[ReplicaRow, None]:
        """In byte order of the key, all versions of one together. Long keys may be left out."""

    async def look(self, key: str) -> ReplicaRow | None:
        """One that `rows` leaves out."""

    def read(self, entry: InventoryEntry) -> AsyncGenerator[bytes, None]: ...

    async def version(self, entry: InventoryEntry) -> str:
        """Another one when the object was written since."""

    def read_on(
        self, entry: InventoryEntry, start: int, version: str
    ) -> AsyncGenerator[bytes, None]:
        """As `read`, without the first `start` bytes, of that version."""


@dataclass(frozen=True)
class BucketContents:
    """A bucket whose versioning is on, as a replica's must be."""

    bucket: Bucket
    prefix: str = ""
    keeps_versions: bool = True

    async def rows(self) -> AsyncGenerator[ReplicaRow, None]:
        async for row in self.bucket.list_versions(self.prefix):
            if not row.is_marker:
                yield ReplicaRow(row.key, row.size_bytes, row.modified_at, row.version_id, row.etag)

    async def look(self, key: str) -> ReplicaRow | None:
        return None

    async def read(self, entry: InventoryEntry) -> AsyncGenerator[bytes, None]:
        async for chunk in self.bucket.get(entry.key, version_id=entry.version):
            yield chunk

    async def version(self, entry: InventoryEntry) -> str:
        return entry.version

    async def read_on(
        self, entry: InventoryEntry, start: int, version: str
    ) -> AsyncGenerator[bytes, None]:
        async for chunk in self.bucket.get(entry.key, version_id=version, start=start):
            yield chunk


@dataclass(frozen=True)
class StoreContents:
    """A store of another cloud, under the names of plan/object_names.py."""

    store: ObjectStore
    keeps_versions: bool = False

    async def rows(self) -> AsyncGenerator[ReplicaRow, None]:
        notes = notes_of(self.store)
        listed = notes.list_noted(NAMES) if notes else self.store.list(NAMES)
        while some := await asyncio.to_thread(_some, listed):
            for row in some:
                yield _row(key_of_name(row.key), row)

    async def look(self, key: str) -> ReplicaRow | None:
        if not is_long(key):
            return None
        try:
            facts = await asyncio.to_thread(self.store.facts, name_of_key(key))
        except Truncated:
            return None
        return _row(key, facts)

    async def read(self, entry: InventoryEntry) -> AsyncGenerator[bytes, None]:
        chunks = self.store.read(name_of_key(entry.key))
        while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
            yield chunk

    async def version(self, entry: InventoryEntry) -> str:
        return (await asyncio.to_thread(self.store.facts, name_of_key(entry.key))).version

    async def read_on(
        self, entry: InventoryEntry, start: int, version: str
    ) -> AsyncGenerator[bytes, None]:
        assert isinstance(self.store, ReadsOn), "every store of another cloud does"
        chunks = self.store.read_on(name_of_key(entry.key), start, version=version)
        while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
            yield chunk


def inventory_entries(store: ObjectStore, point: RecoveryPoint) -> Iterator[InventoryEntry]:
    """What the bucket held at a recovery point of kind "objects"; constant memory.

    Raises:
        Damaged: an inventory cannot be read to its end. Its digest is the manifest's business.
    """
    names = sorted(item.key for item in point.objects if item.key.endswith(".jsonl.zst"))
    return read_lines(piece for name in names for piece in _unpacked(store, name))


def _unpacked(store: ObjectStore, key: str) -> Iterator[bytes]:
    reader = zstandard.ZstdDecompressor().stream_reader(cast(IO[bytes], _File(store.read(key))))
    try:
        while piece := reader.read(PIECE_BYTES):
            yield piece
    except zstandard.ZstdError as error:
        raise Damaged(
            f"expected the inventory {key} to be zstd data, found something else",
            code="inventory-unreadable",
            hint="Copy it back from another location, or use another recovery point.",
            key=key,
        ) from error


class _File:
    """What zstandard reads from: an iterator of chunks as a file."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks

    def read(self, _size: int) -> bytes:
        return next((chunk for chunk in self._chunks if chunk), b"")


def _row(key: str, told: Listed | StoredFacts) -> ReplicaRow:
    noted = read_note(key, told.note)
    return ReplicaRow(key, told.size_bytes, told.modified_at, noted=noted)


def _some(rows: Iterator[Listed]) -> list[Listed]:
    return [row for _, row in zip(range(ROWS_AT_ONCE), rows, strict=False)]
