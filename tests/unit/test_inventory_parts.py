"""An inventory in parts names what one in one piece names, once each, whatever the cuts."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.backup.bucket.inventory_parts import cut_parts, find_parts, join_parts, take_part
from chalicelib.backup.bucket.replicas import BucketReplica
from chalicelib.backup.bucket.shard_plan import Limits, plan_shards
from chalicelib.backup.bucket.sync_decision import SyncPolicy
from chalicelib.backup.bucket.take_inventory import InventoryTaken, bucket_entries, take_inventory
from chalicelib.errors import Truncated
from chalicelib.plan.inventory import InventoryEntry, read_lines
from chalicelib.plan.shards import part_key
from tests.fakes import InMemoryObjectStore
from tests.sync_world import KEYS, World, unpack

RUN, POINT = "run", "20261122T080000Z-objects"


def in_parts(world: World, store: InMemoryObjectStore, cuts: list[str]) -> InventoryTaken:
    parts = cut_parts(store, RUN, POINT, cuts)
    for part in reversed(parts):
        asyncio.run(take_part(world.replica, store, RUN, part, source=world.source))
    return join_parts(store, RUN, parts)


def entries_of(taken: InventoryTaken, store: InMemoryObjectStore) -> list[InventoryEntry]:
    ordered = sorted(it.key for it in taken.objects)
    return list(read_lines([unpack(store.get(key)) for key in ordered]))


@settings(max_examples=60, deadline=None)
@given(st.sets(KEYS), st.sets(KEYS))
def test_parts_that_meet_name_every_object_once(keys: set[str], cuts: set[str]) -> None:
    world = World(versioned=True)
    for key in keys:
        asyncio.run(world.replica.put(key, key.encode()))
        asyncio.run(world.source.put(key, key.encode()))
    store, whole = InMemoryObjectStore(), InMemoryObjectStore()
    taken = in_parts(world, store, sorted(cuts, key=str.encode))
    entries = bucket_entries(world.replica, source=world.source)
    expected = asyncio.run(take_inventory(entries, whole, POINT))
    assert entries_of(taken, store) == entries_of(expected, whole)
    assert (taken.entries, taken.bytes) == (expected.entries, expected.bytes)
    assert len(taken.objects) == len(cuts) + 1
    assert all(it.source is not None for it in entries_of(taken, store))


def test_a_part_without_a_result_is_no_inventory_and_one_that_died_is_taken_again() -> None:
    world, store = World(versioned=True), InMemoryObjectStore()
    world.put(world.replica, a="1", b="2", c="3")
    parts = cut_parts(store, RUN, POINT, ["b"])
    asyncio.run(take_part(world.replica, store, RUN, parts[0]))
    with pytest.raises(Truncated) as caught:
        join_parts(store, RUN, parts)
    assert caught.value.instance_code == "inventory-part-missing"
    second = asyncio.run(take_part(world.replica, store, RUN, parts[1]))
    store.delete(part_key(RUN, 2))  # it died between its object and its result
    assert asyncio.run(take_part(world.replica, store, RUN, parts[1])) == second
    assert [it.key for it in entries_of(join_parts(store, RUN, parts), store)] == ["a", "b", "c"]


def test_cuts_are_made_once() -> None:
    store = InMemoryObjectStore()
    parts = cut_parts(store, RUN, POINT, ["m"])
    assert cut_parts(store, RUN, "20261122T090000Z-objects", []) == parts == find_parts(store, RUN)


def test_a_plan_cuts_about_as_many_keys_as_it_is_told() -> None:
    world, store = World(), InMemoryObjectStore()
    keys = [f"{n % 7}/{n:04}" for n in range(1000)]
    for key in keys:
        asyncio.run(world.source.put(key, b""))
    limits = Limits(part_objects=100)
    plan = asyncio.run(
        plan_shards(
            world.source,
            BucketReplica(world.replica),
            SyncPolicy(),
            store,
            RUN,
            clock=world.clock,
            limits=limits,
        )  # fmt: skip
    )
    bounds = ["", *plan.cuts, "~"]
    sizes = [
        sum(after < key <= through for key in keys)
        for after, through in zip(bounds, bounds[1:], strict=False)
    ]
    assert sum(sizes) == len(keys)
    assert 9 <= len(sizes) <= 11
    assert max(sizes) <= 150
