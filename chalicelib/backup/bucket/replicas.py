"""Where copies of a user's bucket go: another bucket, or a store in another cloud.

A copy into another bucket is made by the servers; one into a store is read once and written as it
is read, a few chunks in memory whatever the size, and counts only when the store holds the SHA-256
that was computed on the way.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import Any, Protocol, TypeVar

from chalicelib.backup.long_copies import LongCopy, LongPlace
from chalicelib.errors import DigestMismatch, LeewardError, Truncated
from chalicelib.plan.copy_notes import read_note, write_note
from chalicelib.plan.object_names import NAMES, is_long, key_of_name, name_of_key
from chalicelib.plan.record import StoredObject
from chalicelib.ports import KeepsUploads, Listed, ObjectStore, StoredFacts, notes_of
from chalicelib.ports.buckets import Bucket, CopySource, Deleted, KeyFailure, ObjectRow

T = TypeVar("T")
MIB = 1 << 20
# Up to here an object is read whole and put in one request.
SMALL_BYTES = MIB
LISTED_AT_ONCE = 1000
STORE_THREADS = 32
# A writer holds a few parts of a large object in memory.
LARGE_AT_ONCE = 4


@dataclass(frozen=True)
class Copied:
    """One copy as its server confirmed it. `sha256` in hex, "" when nobody computed it.
    `dated_after` as in ports/buckets.py."""

    key: str
    size_bytes: int
    etag: str = ""
    version_id: str = ""
    sha256: str = ""
    dated_after: timedelta | None = None


class Replica(Protocol):
    """`ranged`: a listing can begin anywhere, so that several walk at once. `has_etags`: its rows
    have S3's. `tells_source`: its rows tell what they were copied from. `keeps_versions`: what is
    deleted or written over stays below. `in_flight`: how many copies it bears at once."""

    @property
    def name(self) -> str: ...

    @property
    def ranged(self) -> bool: ...

    @property
    def has_etags(self) -> bool: ...

    @property
    def tells_source(self) -> bool: ...

    @property
    def keeps_versions(self) -> bool: ...

    @property
    def in_flight(self) -> int: ...

    def pages(
        self, prefix: str = "", *, start_after: str = "", end_before: str = ""
    ) -> AsyncGenerator[Sequence[ObjectRow], None]:
        """As Bucket.pages."""

    def hides(self, key: str) -> bool:
        """The key's object is not in the listing; `look` finds it."""

    async def look(self, key: str) -> ObjectRow | None: ...

    async def copy(self, source: Bucket, row: ObjectRow) -> Copied:
        """Raises as Bucket.copy_from and Bucket.get do."""

    async def delete(self, keys: Sequence[str]) -> Deleted:
        """Raises Refused (code "not-versioned") as Bucket.put_markers does."""


class BucketReplica:
    """A bucket of the same cloud, in any region. Deleting puts markers, and is refused where it
    would lose data: somebody may have suspended its versioning."""

    ranged = True
    has_etags = True
    tells_source = False
    keeps_versions = True
    in_flight = 1 << 30

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket

    @property
    def name(self) -> str:
        return self.bucket.name

    def pages(
        self, prefix: str = "", *, start_after: str = "", end_before: str = ""
    ) -> AsyncGenerator[Sequence[ObjectRow], None]:
        return self.bucket.pages(prefix, start_after=start_after, end_before=end_before)

    def hides(self, key: str) -> bool:
        return False

    async def look(self, key: str) -> ObjectRow | None:
        return await look(self.bucket, key)

    async def copy(self, source: Bucket, row: ObjectRow) -> Copied:
        wanted = CopySource(
            source.name, row.key, region=source.region, etag=row.etag,
            size_bytes=row.size_bytes, storage_class=row.storage_class,
        )  # fmt: skip
        written = await self.bucket.copy_from(wanted)
        return Copied(
            row.key, row.size_bytes, written.etag, written.version_id,
            dated_after=written.dated_after,
        )  # fmt: skip

    async def delete(self, keys: Sequence[str]) -> Deleted:
        return await self.bucket.put_markers(keys)


class StoreReplica:
    """A store in another cloud, under the names of plan/object_names.py.

    Keys too long for any store are never deleted by a mirror: their names do not tell them.
    `long`: how objects are put down that take longer than one process; its `copy` then raises
    Unavailable (code "put-down").
    """

    ranged = False
    has_etags = False
    keeps_versions = False

    def __init__(
        self,
        store: ObjectStore,
        name: str,
        *,
        threads: int = STORE_THREADS,
        long: LongPlace | None = None,
    ) -> None:
        self._store = store
        self._notes = notes_of(store)
        self._long = long
        self.name = name
        self.in_flight = threads
        self._threads = ThreadPoolExecutor(threads)
        self._large = asyncio.Semaphore(LARGE_AT_ONCE)

    @property
    def tells_source(self) -> bool:
        return self._notes is not None

    async def pages(
        self, prefix: str = "", *, start_after: str = "", end_before: str = ""
    ) -> AsyncGenerator[Sequence[ObjectRow], None]:
        listing = self._notes.list_noted if self._notes else self._store.list
        rows = await self._in_thread(listing, NAMES + prefix)
        while some := await self._in_thread(_next_rows, rows):
            found = [
                row
                for row in some
                if row.key > start_after and (not end_before or row.key < end_before)
            ]
            if found:
                yield found
            if end_before and some[-1].key >= end_before:
                return

    def hides(self, key: str) -> bool:
        return is_long(key)

    async def look(self, key: str) -> ObjectRow | None:
        try:
            facts = await self._in_thread(self._store.facts, name_of_key(key))
        except Truncated:
            return None
        return _row(key, facts)

    async def copy(self, source: Bucket, row: ObjectRow) -> Copied:
        place, digest = self._long, hashlib.sha256()
        if place and row.size_bytes >= place.long_bytes and isinstance(self._store, KeepsUploads):
            async with self._large:
                stored = await self._copy_in_turns(source, row, place)
            return Copied(row.key, stored.size_bytes, sha256=stored.sha256)
        store = self._noting(row, digest.hexdigest)
        if row.size_bytes <= SMALL_BYTES:
            stored = await self._copy_small(source, row, store, digest.update)
        else:
            async with self._large:
                stored = await self._copy_large(source, row, store, digest.update)
        _check_stored(row, stored, digest.hexdigest())
        return Copied(row.key, stored.size_bytes, sha256=stored.sha256)

    async def delete(self, keys: Sequence[str]) -> Deleted:
        done: list[tuple[str, str]] = []
        failed: list[KeyFailure] = []
        for key in keys:
            try:
                await self._in_thread(self._store.delete, name_of_key(key))
                done.append((key, ""))
            except LeewardError as error:
                failed.append(KeyFailure(key, "", error.instance_code, error.message))
        return Deleted(tuple(done), tuple(failed))

    async def _in_thread(self, work: Callable[..., T], *arguments: Any) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, work, *arguments)

    def _noting(self, row: ObjectRow, sha256: Callable[[], str]) -> ObjectStore:
        """The store, noting with the copy of what it is; `sha256`: asked at its end."""
        if self._notes is None:
            return self._store
        return self._notes.noting(lambda: write_note(row.key, row.etag, sha256()))

    async def _copy_small(
        self, source: Bucket, row: ObjectRow, store: ObjectStore, digest: _Update
    ) -> StoredObject:
        content = bytearray()
        async with aclosing(source.get(row.key, etag=row.etag)) as chunks:
            async for chunk in chunks:
                digest(chunk)
                content += chunk
        return await self._in_thread(store.put, name_of_key(row.key), bytes(content))

    async def _copy_large(
        self, source: Bucket, row: ObjectRow, store: ObjectStore, digest: _Update
    ) -> StoredObject:
        opened = store.open_writer(name_of_key(row.key))
        writer = await self._in_thread(opened.__enter__)
        try:
            async with aclosing(_of_size(source, row, 0)) as pieces:
                async for piece in pieces:
                    await self._in_thread(_hash_and_write, digest, writer.write, piece)
            return await self._in_thread(writer.commit)
        finally:
            await self._in_thread(opened.__exit__, None, None, None)

    async def _copy_in_turns(
        self, source: Bucket, row: ObjectRow, place: LongPlace
    ) -> StoredObject:
        store = self._noting(row, lambda: long.sha256)
        assert isinstance(store, KeepsUploads), "as the store that it is"
        long = LongCopy(place, store, name_of_key(row.key), row.size_bytes, row.etag)
        await self._in_thread(long.__enter__)
        try:
            if long.position < row.size_bytes:
                async with aclosing(_of_size(source, row, long.position)) as pieces:
                    async for piece in pieces:
                        await self._in_thread(long.take, piece)
            return await self._in_thread(long.finish)
        finally:
            await self._in_thread(long.__exit__, None, None, None)


class _Update(Protocol):
    def __call__(self, data: bytes | bytearray, /) -> None: ...


async def look(bucket: Bucket, key: str) -> ObjectRow | None:
    """The current object as a listing would show it, None when there is none."""
    try:
        facts = await bucket.head(key, checksums=False)
    except Truncated:
        return None
    return ObjectRow(key, facts.size_bytes, facts.etag, facts.modified_at, facts.storage_class)


async def _of_size(source: Bucket, row: ObjectRow, start: int) -> AsyncGenerator[bytearray, None]:
    """The object from `start` on, in pieces of about a MiB: a thread is woken for each."""
    piece = bytearray()
    async with aclosing(source.get(row.key, start=start, etag=row.etag)) as chunks:
        async for chunk in chunks:
            piece += chunk
            if len(piece) >= MIB:
                yield piece
                piece = bytearray()
    if piece:
        yield piece


def _hash_and_write(digest: _Update, write: _Update, piece: bytearray) -> None:
    digest(piece)
    write(piece)


def _next_rows(rows: Iterator[Listed]) -> list[ObjectRow]:
    some = islice(rows, LISTED_AT_ONCE)
    return [_row(key_of_name(it.key), it) for it in some]


def _row(key: str, told: Listed | StoredFacts) -> ObjectRow:
    noted = read_note(key, told.note)
    source = noted and noted.etag
    return ObjectRow(key, told.size_bytes, "", told.modified_at, copied_from=source)


def _check_stored(row: ObjectRow, stored: StoredObject, sha256: str) -> None:
    if (stored.size_bytes, stored.sha256) != (row.size_bytes, sha256):
        raise DigestMismatch(
            f"expected {row.size_bytes} bytes with SHA-256 {sha256} to be stored for "
            f"{row.key!r}, found {stored.size_bytes} with {stored.sha256}",
            code="stored-otherwise",
            hint="Copy it again; if it repeats, the store or the network changes bytes.",
            key=row.key,
        )
