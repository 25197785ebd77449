"""The state of a replica written down as part of a recovery point: which objects, which versions.

The inventory is what the replica's own server says after the sync, not what the sync believes to
have done. It is streamed: some hundred rows and one block of lines are in memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace

from chalicelib.backup.bucket.sync import SyncResult
from chalicelib.backup.bucket.sync_decision import SyncPolicy
from chalicelib.backup.point_objects import PackedWriter, PointObjects
from chalicelib.errors import CheckFailed, NotReady, Truncated
from chalicelib.plan.inventory import (
    InventoryEntry,
    SourceVersion,
    inventory_name,
    sha256_of_checksums,
)
from chalicelib.plan.object_names import name_of_key
from chalicelib.plan.records import StoredObject
from chalicelib.ports import ObjectStore
from chalicelib.ports.buckets import Bucket, ObjectFacts, VersionRow

ENTRIES_PER_OBJECT = 100_000
HEADS_AT_ONCE = 256
STORE_HEADS_AT_ONCE = 16
BLOCK_BYTES = 1 << 20

Entries = AsyncGenerator[InventoryEntry | None, None]


@dataclass(frozen=True)
class InventoryTaken:
    """`objects` go into the point's manifest; `entries` and `bytes` count the replica's objects.

    `absent`: keys that were listed and then not there, or not yet in the other cloud. They are in
    no entry; a sync that ended well and a replica at rest leave none.
    """

    objects: tuple[StoredObject, ...]
    entries: int
    bytes: int
    absent: int


async def take_inventory(
    entries: Entries,
    store: ObjectStore,
    point_id: str,
    *,
    entries_per_object: int = ENTRIES_PER_OBJECT,
    first: int = 1,
    progress: Callable[[int], None] = lambda _: None,
) -> InventoryTaken:
    """Write entries as `points/<point_id>/inventory-<n>.jsonl.zst`; remove them when it fails.

    The point's manifest is the caller's and is written after this.

    Args:
        entries: of `bucket_entries` or `store_entries`; closed here.
        store: the component's own objects.
        first: number of the first object.
        progress: told how many entries there are so far.
    """
    with PointObjects(store, point_id) as objects:
        shards = _Shards(objects, entries_per_object, first)
        absent = 0
        async with aclosing(entries):
            async for entry in entries:
                if entry is None:
                    absent += 1
                    continue
                await shards.add(entry)
                progress(shards.entries)
        await shards.finish()
        return InventoryTaken(objects.stored, shards.entries, shards.bytes, absent)


def check_inventory(result: SyncResult, taken: InventoryTaken, policy: SyncPolicy) -> None:
    """A replica that a sync has just brought up to date holds what that sync has compared.

    Raises:
        CheckFailed: code "inventory-short": its listing ended early, or somebody empties it. Only
            what a mirror may delete may be missing.
    """
    compared = result.source_objects - result.vanished
    may_go = int(policy.max_delete_share * compared) if policy.mirror else 0
    found = taken.entries
    if found < compared - may_go:
        raise CheckFailed(
            f"expected {compared} objects of {result.source} in {result.replica}, its listing "
            f"has {found}",
            code="inventory-short",
            hint="look who deletes from the replica; the next sync brings what is missing",
            compared=compared,
            found=found,
        )


async def bucket_entries(
    replica: Bucket,
    prefix: str = "",
    *,
    source: Bucket | None = None,
    after: str = "",
    through: str = "",
) -> Entries:
    """Each current object as one HEAD tells it: version, stored checksums.

    Args:
        source: the user's bucket, whose own versions are named beside the replica's.
        after, through: only keys behind the one, up to and with the other; "" is no bound.
    Raises:
        NotReady: code "replica-not-versioned": the next sync would overwrite what the point names.
    """
    found = await replica.versioning()
    if found != "Enabled":
        raise NotReady(
            f"expected versioning of {replica.name} to be Enabled, found {found or 'none'}",
            code="replica-not-versioned",
            hint="Turn versioning on: a point of this bucket consists of the versions it names.",
        )
    # The smallest key behind `through`.
    end = through and through + "\0"
    keys = (row.key async for row in replica.list(prefix, start_after=after, end_before=end))
    entries = _in_order(keys, lambda key: _bucket_entry(replica, key), HEADS_AT_ONCE)
    if source is not None:
        rows = source.list_versions(prefix, key_marker=after, through=through)
        entries = _with_source(entries, rows)
    async with aclosing(entries):
        async for entry in entries:
            yield entry


async def _with_source(entries: Entries, rows: AsyncGenerator[VersionRow, None]) -> Entries:
    """Both in byte order of the key; a key that is deleted in the bucket has no version there."""
    async with aclosing(entries), aclosing(rows):
        row = await anext(rows, None)
        async for entry in entries:
            while entry and row and (row.key < entry.key or _is_hidden(row, entry.key)):
                row = await anext(rows, None)
            if entry and row and row.key == entry.key:
                entry = replace(entry, source=_source_version(row))
            yield entry


def _is_hidden(row: VersionRow, key: str) -> bool:
    return row.key == key and (row.is_marker or not row.is_latest)


def _source_version(row: VersionRow) -> SourceVersion:
    return SourceVersion(row.version_id, row.modified_at, row.size_bytes, row.etag)


async def store_entries(source: Bucket, store: ObjectStore, prefix: str = "") -> Entries:
    """What another cloud holds of each of the source's keys, whose true names it may not tell.

    Such a point lasts as long as that store keeps the versions it names, or until a key changes.
    """
    keys = (row.key async for row in source.list(prefix))
    async for entry in _in_order(keys, lambda key: _store_entry(store, key), STORE_HEADS_AT_ONCE):
        yield entry


async def _in_order(
    keys: AsyncGenerator[str, None],
    ask: Callable[[str], Awaitable[InventoryEntry | None]],
    at_once: int,
) -> Entries:
    async with aclosing(keys):
        asked: list[str] = []
        async for key in keys:
            asked.append(key)
            if len(asked) == at_once:
                for entry in await asyncio.gather(*map(ask, asked)):
                    yield entry
                asked = []
        for entry in await asyncio.gather(*map(ask, asked)):
            yield entry


async def _bucket_entry(replica: Bucket, key: str) -> InventoryEntry | None:
    try:
        facts: ObjectFacts = await replica.head(key)
    except Truncated:
        return None
    return InventoryEntry(
        key, facts.size_bytes, facts.modified_at, facts.etag, facts.version_id,
        facts.checksums, facts.checksum_type,
        sha256_of_checksums(facts.checksums, facts.checksum_type),
    )  # fmt: skip


async def _store_entry(store: ObjectStore, key: str) -> InventoryEntry | None:
    try:
        facts = await asyncio.to_thread(store.facts, name_of_key(key))
    except Truncated:
        return None
    return InventoryEntry(
        key, facts.size_bytes, facts.modified_at, version=facts.version,
        sha256=facts.checksums.get("sha256", ""),
    )  # fmt: skip


class _Shards:
    """Lines on their way into one object after the other; the store is waited for in a thread."""

    def __init__(self, objects: PointObjects, entries_per_object: int, first: int) -> None:
        self._objects = objects
        self._per_object = entries_per_object
        self._writer: PackedWriter | None = None
        self._block = bytearray()
        self._number = first - 1
        self.entries = 0
        self.bytes = 0

    async def add(self, entry: InventoryEntry) -> None:
        if self.entries % self._per_object == 0:
            await self._next()
        self._block += entry.to_line()
        self.entries += 1
        self.bytes += entry.size_bytes
        if len(self._block) >= BLOCK_BYTES:
            await self._send()

    async def finish(self) -> None:
        """An empty bucket has an inventory too: one object without lines."""
        if self._writer is None:
            await self._next()
        await self._close()

    async def _next(self) -> None:
        await self._close()
        self._number += 1
        name = inventory_name(self._number)
        self._writer = await asyncio.to_thread(self._objects.open_packed, name)

    async def _send(self) -> None:
        assert self._writer is not None
        block, self._block = self._block, bytearray()
        await asyncio.to_thread(self._writer.write, block)

    async def _close(self) -> None:
        if self._writer is not None:
            await self._send()
            await asyncio.to_thread(self._objects.commit, self._writer)
