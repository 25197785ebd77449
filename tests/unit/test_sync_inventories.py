"""What a sync writes down of a replica is what the replica holds, or nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from chalicelib.backup.bucket.sync_decision import SyncPolicy
from chalicelib.backup.bucket.take_inventory import (
    InventoryTaken,
    bucket_entries,
    check_inventory,
    take_inventory,
)
from chalicelib.errors import CheckFailed, NotReady, Unavailable
from chalicelib.plan.inventory import SourceVersion, read_lines
from tests.fakes import InMemoryObjectStore
from tests.fakes_buckets import InMemoryBucket
from tests.sync_world import World, unpack


@pytest.mark.parametrize(
    ("mirror", "entries", "short"),
    [(False, 100, False), (False, 99, True), (False, 0, True), (True, 95, False), (True, 94, True)],
)
def test_an_inventory_that_is_shorter_than_what_was_compared_is_no_recovery_point(
    mirror: bool, entries: int, short: bool
) -> None:
    """A listing that ends early, or a replica that somebody empties behind the sync's back."""
    world = World()
    for number in range(100):
        world.put(world.source, **{f"k{number}": "1"})
    policy = SyncPolicy(mirror=mirror, max_delete_share=0.05)
    result = world.sync(policy=policy)
    taken = InventoryTaken((), entries, entries, 0)
    if not short:
        check_inventory(result, taken, policy)
        return
    with pytest.raises(CheckFailed) as caught:
        check_inventory(result, taken, policy)
    assert caught.value.instance_code == "inventory-short"


def test_an_inventory_is_the_state_of_the_replica() -> None:
    world = World(versioned=True)
    world.put(world.source, **{f"k{number}": str(number) for number in range(7)})
    world.sync()
    store = InMemoryObjectStore()
    point = "20261122T080000Z-objects"
    taken = asyncio.run(
        take_inventory(bucket_entries(world.replica), store, point, entries_per_object=3)
    )
    assert [one.key for one in taken.objects] == [
        f"points/{point}/inventory-00000{number}.jsonl.zst" for number in (1, 2, 3)
    ]
    entries = list(read_lines(map(unpack, (store.get(one.key) for one in taken.objects))))
    assert (taken.entries, taken.bytes, taken.absent) == (7, 7, 0)
    assert [entry.key for entry in entries] == sorted(world.source.versions)
    for entry in entries:
        facts = world.replica.versions[entry.key][0].facts
        assert (entry.version, entry.etag) == (facts.version_id, facts.etag)
        assert len(entry.sha256) == 64


def test_an_inventory_names_the_version_of_the_bucket_itself() -> None:
    """Of the newest one; a key that the bucket has deleted, or never had, has none."""
    world, store = World(versioned=True), InMemoryObjectStore()
    world.put(world.source, a="1", deleted="1", twice="1")
    world.sync()
    world.put(world.source, twice="22", new="1")
    world.put(world.replica, foreign="1")
    asyncio.run(world.source.delete([("deleted", "")]))
    entries = bucket_entries(world.replica, source=world.source)
    taken = asyncio.run(take_inventory(entries, store, "p"))
    [written] = taken.objects
    named = {it.key: it.source for it in read_lines([unpack(store.get(written.key))])}
    assert named.keys() == {"a", "deleted", "foreign", "twice"}
    assert named["deleted"] is named["foreign"] is None
    for key in ("a", "twice"):
        facts = world.source.versions[key][0].facts
        assert named[key] == SourceVersion(
            facts.version_id, facts.modified_at, facts.size_bytes, facts.etag
        )


def test_a_replica_that_the_next_sync_overwrites_is_no_recovery_point() -> None:
    world = World()
    world.replica._status = "Suspended"
    store = InMemoryObjectStore()
    with pytest.raises(NotReady) as caught:
        asyncio.run(take_inventory(bucket_entries(world.replica), store, "p"))
    assert caught.value.instance_code == "replica-not-versioned"
    assert store.objects == {}


def test_nothing_is_left_of_an_inventory_that_failed() -> None:
    class Breaking(InMemoryBucket):
        async def head(self, key: str, **how: Any) -> Any:
            if key == "k5":
                raise Unavailable("no answer", hint="Wait.")
            return await super().head(key, **how)

    world = World()
    bucket = Breaking(world.buckets, "breaking", "Enabled")
    world.put(bucket, **{f"k{number}": str(number) for number in range(9)})
    store = InMemoryObjectStore()
    with pytest.raises(Unavailable):
        asyncio.run(take_inventory(bucket_entries(bucket), store, "p", entries_per_object=2))
    assert store.objects == {}
