"""The sync engine on buckets in memory: what is there afterwards, and what is reported."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.backup.bucket.replicas import BucketReplica, Copied, StoreReplica
from chalicelib.backup.bucket.sync import SyncResult, sync_buckets
from chalicelib.backup.bucket.sync_decision import KeyDecision, SyncPolicy
from chalicelib.backup.bucket.take_inventory import store_entries, take_inventory
from chalicelib.errors import CheckFailed, NotReady, Refused, Unavailable
from chalicelib.plan.object_names import name_of_key
from chalicelib.ports.buckets import Bucket, Deleted, ObjectRow
from tests.fakes import InMemoryObjectStore
from tests.sync_world import OBJECTS, World, contents


@settings(max_examples=150, deadline=None)
@given(
    OBJECTS,
    OBJECTS,
    st.booleans(),
    st.integers(1, 4),
    st.booleans(),
    st.integers(1, 4),
    st.integers(1, 4),
)
def test_the_replica_has_what_the_source_has(
    source: dict[str, bytes],
    replica: dict[str, bytes],
    mirror: bool,
    split_after: int,
    versioned: bool,
    source_page: int,
    replica_page: int,
) -> None:
    """Whatever there was, and however the listings are cut into pages and among walkers."""
    world = World(versioned=versioned)
    world.source.page_rows, world.replica.page_rows = source_page, replica_page
    for bucket, objects in ((world.source, source), (world.replica, replica)):
        for key, data in objects.items():
            asyncio.run(bucket.put(key, data))
    policy = SyncPolicy(mirror=mirror, max_delete_share=1)
    told: list[KeyDecision] = []
    planned: list[KeyDecision] = []
    dry = world.sync(policy=policy, dry_run=True, on_decision=planned.append)
    assert contents(world.replica) == replica
    done = world.sync(policy=policy, on_decision=told.append, split_after=split_after)
    extra = {} if mirror else {k: v for k, v in replica.items() if k not in source}
    assert contents(world.replica) == {**extra, **source}
    assert sorted(told, key=lambda one: one.key) == sorted(planned, key=lambda one: one.key)
    assert done.ok
    assert done.reasons == dry.reasons
    assert done.copied == sum(key not in replica or replica[key] != source[key] for key in source)
    assert (done.source_objects, done.replica_objects) == (len(source), len(replica))
    again = world.sync(policy=policy)
    assert (again.copied, again.deleted) == (0, 0)


def test_a_large_listing_is_cut_and_no_key_is_missed_or_taken_twice() -> None:
    world = World()
    rng = random.Random(7)
    keys = {f"{rng.randrange(4)}/{rng.randrange(30)}/{number}" for number in range(3000)}
    keys |= {"0/", "1/2/", "flat", "~"}
    for key in keys:
        asyncio.run(world.source.put(key, b"1"))
    told: list[str] = []
    world.sync(on_decision=lambda one: told.append(one.key), split_after=100)
    assert sorted(told) == sorted(keys)
    assert contents(world.replica).keys() == keys


class WithEmptyPages(BucketReplica):
    """Its server also sends pages in which there is nothing."""

    async def pages(self, *args: Any, **how: Any) -> AsyncGenerator[Sequence[ObjectRow], None]:
        async for rows in super().pages(*args, **how):
            yield []
            yield rows


def test_a_page_with_nothing_in_it_is_not_the_end() -> None:
    """What is taken for missing would be copied again, or deleted."""
    world = World()
    world.source.page_rows = world.replica.page_rows = 1
    for bucket in (world.source, world.replica):
        world.put(bucket, a="1", b="2", c="3")
    assert world.sync(WithEmptyPages(world.replica)).reasons == {"leave same-etag": 3}


def test_a_prefix_bounds_both_sides_and_progress_counts_up() -> None:
    world = World()
    for bucket, keys in ((world.source, "a b/1 b/2 c"), (world.replica, "b/3 z")):
        for key in keys.split():
            asyncio.run(bucket.put(key, b"12"))
    seen: list[tuple[int, int]] = []
    done = world.sync(
        policy=SyncPolicy(prefix="b/", mirror=True, max_delete_share=1),
        progress=lambda now: seen.append((now.copied, now.copied_bytes)),
    )
    assert contents(world.replica).keys() == {"b/1", "b/2", "z"}
    assert (done.source_objects, done.replica_objects) == (2, 1)
    assert seen[:2] == [(1, 2), (2, 4)]


def test_too_many_deletions_are_refused_before_any() -> None:
    world = World()
    world.put(world.source, a="1", b="2")
    world.put(world.replica, x="1", y="1", z="1")
    mirror = SyncPolicy(mirror=True)
    with pytest.raises(Refused) as caught:
        world.sync(policy=mirror)
    assert caught.value.instance_code == "too-many-deletions"
    assert contents(world.replica).keys() == {"a", "b", "x", "y", "z"}
    assert world.sync(policy=mirror, dry_run=True).reasons["delete not-in-source"] == 3
    assert world.sync(policy=mirror, approved=True).deleted == 3
    assert contents(world.replica).keys() == {"a", "b"}


def test_a_source_that_lost_everything_does_not_take_the_replica_with_it() -> None:
    world = World()
    world.put(world.replica, **{f"k{number}": "x" for number in range(100)})
    with pytest.raises(Refused):
        world.sync(policy=SyncPolicy(mirror=True))
    assert len(contents(world.replica)) == 100


def test_what_was_written_again_since_it_was_listed_is_not_deleted() -> None:
    world = World()
    world.put(world.replica, a="old", b="old")

    class LateWriter(BucketReplica):
        async def delete(self, keys: Sequence[str]) -> Deleted:
            assert list(keys) == ["b"]
            return await super().delete(keys)

    def write_again(decision: KeyDecision) -> None:
        if decision.key == "a":
            world.source.versions["a"] = list(world.replica.versions["a"])

    mirror = SyncPolicy(mirror=True, max_delete_share=1)
    done = world.sync(LateWriter(world.replica), mirror, on_decision=write_again)
    assert done.deleted == 1
    assert contents(world.replica).keys() == {"a"}


class FailingReplica(BucketReplica):
    """Copies of some keys fail, `times` each."""

    def __init__(self, bucket: Bucket, error: Exception, keys: set[str], times: int) -> None:
        super().__init__(bucket)
        self._error, self._left = error, dict.fromkeys(keys, times)

    async def copy(self, source: Bucket, row: ObjectRow) -> Copied:
        if self._left.get(row.key, 0) > 0:
            self._left[row.key] -= 1
            raise self._error
        return await super().copy(source, row)


def test_single_failures_are_tried_again_named_and_never_counted_as_copies() -> None:
    error = Unavailable("no answer", hint="Wait.")
    world = World()
    world.put(world.source, a="1", b="2", c="3")
    once = world.sync(FailingReplica(world.replica, error, {"b"}, 1))
    assert once.ok
    assert once.copied == 3
    world = World()
    world.put(world.source, a="1", b="2", c="3")
    done = world.sync(FailingReplica(world.replica, error, {"b"}, 99))
    assert not done.ok
    assert (done.copied, done.failed) == (2, 1)
    assert [(one.key, one.code) for one in done.failures] == [("b", "unavailable")]
    assert contents(world.replica).keys() == {"a", "c"}
    assert SyncResult.from_json(done.to_json()) == done
    assert world.sync().copied == 1


def test_what_concerns_every_key_ends_the_sync() -> None:
    world = World()
    world.put(world.source, a="1", b="2")
    gone = NotReady("no bucket", code="no-bucket", hint="Make it.")
    with pytest.raises(NotReady):
        world.sync(FailingReplica(world.replica, gone, {"a"}, 99))
    with pytest.raises(NotReady):
        world.sync(BucketReplica(world.buckets.bucket("absent")))


def test_a_sync_where_nothing_works_gives_up() -> None:
    world = World()
    keys = {f"k{number:05}" for number in range(1500)}
    for key in keys:
        asyncio.run(world.source.put(key, b"1"))
    error = Refused("not allowed", code="access-denied", hint="Allow it.")
    with pytest.raises(CheckFailed) as caught:
        world.sync(FailingReplica(world.replica, error, keys, 99))
    assert caught.value.instance_code == "too-many-failures"
    assert "not allowed" in caught.value.message


def test_an_archived_object_fails_alone() -> None:
    world = World()
    world.put(world.source, a="1", b="2")
    stored = world.source.versions["a"][0]
    object.__setattr__(stored.facts, "storage_class", "GLACIER")
    done = world.sync()
    assert [(one.key, one.code) for one in done.failures] == [("a", "archived")]
    assert done.copied == 1


def test_a_store_in_another_cloud_gets_every_key_and_its_digest() -> None:
    world = World()
    store = InMemoryObjectStore()
    keys = ["a//b", "./z", "/lead", "dir/", "new\nline", "k" * 1024, "é"]
    for key in keys:
        asyncio.run(world.source.put(key, key.encode() * 2000))
    world.clock.at = datetime.now(UTC) - timedelta(hours=1)

    async def work() -> tuple[SyncResult, SyncResult, Any]:
        replica = StoreReplica(store, "elsewhere")
        first = await sync_buckets(world.source, replica, SyncPolicy(), clock=world.clock)
        second = await sync_buckets(world.source, replica, SyncPolicy(), clock=world.clock)
        kept = InMemoryObjectStore()
        entries = store_entries(world.source, store)
        return first, second, await take_inventory(entries, kept, "20261122T080000Z-objects")

    first, second, taken = asyncio.run(work())
    assert store.objects == {name_of_key(key): key.encode() * 2000 for key in keys}
    assert first.copied == len(keys)
    assert second.copied == 0
    assert (taken.entries, taken.absent) == (len(keys), 0)


def test_a_store_that_lies_about_what_it_holds_is_not_believed() -> None:
    class Lying(InMemoryObjectStore):
        def put(self, key: str, data: bytes, *, if_absent: bool = False) -> Any:
            return super().put(key, data[:-1] + b"!", if_absent=if_absent)

    world = World()
    world.put(world.source, k="content")

    async def work() -> SyncResult:
        replica = StoreReplica(Lying(), "elsewhere")
        return await sync_buckets(world.source, replica, SyncPolicy(), clock=world.clock)

    done = asyncio.run(work())
    assert [(one.key, one.code) for one in done.failures] == [("k", "stored-otherwise")]
    assert done.copied == 0


def test_no_more_copies_are_under_way_than_the_policy_says() -> None:
    world = World()
    for number in range(300):
        asyncio.run(world.source.put(f"k{number:03}", b"1"))
    under_way, most = set[str](), 0

    class Slow(BucketReplica):
        async def copy(self, source: Bucket, row: ObjectRow) -> Copied:
            nonlocal most
            under_way.add(row.key)
            most = max(most, len(under_way))
            await asyncio.sleep(0.001)
            under_way.remove(row.key)
            return await super().copy(source, row)

    assert world.sync(Slow(world.replica), SyncPolicy(in_flight=7)).copied == 300
    assert most == 7
