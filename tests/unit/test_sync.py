"""The sync engine on buckets in memory: what is there afterwards, and what is reported."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.backup.bucket.in_parts import Compared, load_compared, save_compared
from chalicelib.backup.bucket.replicas import BucketReplica, Copied, StoreReplica
from chalicelib.backup.bucket.replicate import Replicated, replicate_object
from chalicelib.backup.bucket.sync import SyncResult, sync_buckets
from chalicelib.backup.bucket.sync_decision import KeyDecision, SyncPolicy
from chalicelib.backup.bucket.take_inventory import (
    InventoryTaken,
    bucket_entries,
    check_inventory,
    store_entries,
    take_inventory,
)
from chalicelib.errors import (
    BadInput,
    CheckFailed,
    DigestMismatch,
    NotReady,
    Refused,
    Unavailable,
)
from chalicelib.plan.inventory import SourceVersion, read_lines
from chalicelib.plan.object_names import name_of_key
from chalicelib.ports.buckets import Bucket, Deleted, ObjectRow
from tests.fakes import InMemoryObjectStore
from tests.fakes_buckets import InMemoryBucket, InMemoryBuckets

START = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)


class Ticking:
    """A clock that only moves when told to."""

    def __init__(self) -> None:
        self.at = START

    def now(self) -> datetime:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


class World:
    def __init__(self, *, versioned: bool = False) -> None:
        self.clock = Ticking()
        self.buckets = InMemoryBuckets(self.clock.now)
        self.source = self.buckets.create("source", versioned=versioned)
        self.replica = self.buckets.create("replica", versioned=versioned)

    def put(self, bucket: InMemoryBucket, **contents: str) -> None:
        for key, value in contents.items():
            asyncio.run(bucket.put(key, value.encode()))

    def sync(self, replica: Any = None, policy: SyncPolicy | None = None, **how: Any) -> SyncResult:
        target = replica or BucketReplica(self.replica)
        wanted = policy or SyncPolicy()
        return asyncio.run(sync_buckets(self.source, target, wanted, clock=self.clock, **how))


def unpack(packed: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompressobj().decompress(packed)


def contents(bucket: InMemoryBucket) -> dict[str, bytes]:
    found = {key: versions[0].data for key, versions in bucket.versions.items()}
    return {key: data for key, data in found.items() if data is not None}


KEYS = st.sampled_from(["a", "a/", "a/b", "a//b", "b/1", "b/2", "b/c/d", "é", "～", "😀", "z"])
OBJECTS = st.dictionaries(KEYS, st.binary(max_size=3))


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


class Interrupting(BucketReplica):
    """Something else happens right before a copy."""

    def __init__(self, bucket: Bucket, happens: Any) -> None:
        super().__init__(bucket)
        self._happens = happens

    async def copy(self, source: Bucket, row: ObjectRow) -> Copied:
        await self._happens(row)
        return await super().copy(source, row)


def test_an_object_that_changes_or_goes_while_it_is_copied() -> None:
    world = World()
    world.put(world.source, changes="old", goes="old")
    left = {"changes", "goes"}

    async def happens(row: ObjectRow) -> None:
        if row.key in left:
            left.remove(row.key)
            if row.key == "goes":
                await world.source.delete([("goes", "")])
            else:
                await world.source.put("changes", b"new content")

    done = world.sync(Interrupting(world.replica, happens))
    assert done.ok
    assert (done.copied, done.vanished) == (1, 1)
    assert contents(world.replica) == {"changes": b"new content"}


def test_an_object_that_never_rests_is_a_failure() -> None:
    world = World()
    world.put(world.source, k="0")
    numbers = iter(range(1, 100))

    async def happens(row: ObjectRow) -> None:
        await world.source.put("k", str(next(numbers)).encode())

    done = world.sync(Interrupting(world.replica, happens))
    assert [(one.key, one.code) for one in done.failures] == [("k", "object-changed")]


class AfterCopy(BucketReplica):
    """The source is written between a copy and its end, once, and by nobody's ETag."""

    def __init__(self, bucket: Bucket, happens: Any) -> None:
        super().__init__(bucket)
        self._happens = happens

    async def copy(self, source: Bucket, row: ObjectRow) -> Copied:
        copied = await super().copy(source, row)
        await self._happens(row)
        return copied


def test_a_change_during_a_copy_is_not_hidden_by_its_time() -> None:
    """Same size, an ETag that tells nothing, and a copy younger than the source: no later sync
    would see it."""
    world = World()
    world.put(world.source, k="old")
    left = ["once"]

    async def happens(row: ObjectRow) -> None:
        if left:
            left.pop()
            await world.source.put("k", b"new")
            world.clock.sleep(60)

    policy = SyncPolicy(opaque_etags=True)
    world.sync(AfterCopy(world.replica, happens), policy)
    assert contents(world.replica) == {"k": b"new"}


@pytest.mark.parametrize("then_in_parts", [True, False])
@pytest.mark.parametrize("copy_in_parts", [True, False])
def test_an_object_of_parts_that_changed_during_its_copy_is_brought_by_the_next_sync(
    then_in_parts: bool, copy_in_parts: bool
) -> None:
    """Between ETags that tell the content nobody looks again: the next sync has not compared it."""
    world = World(versioned=True)
    world.source.complete("k", b"old", world.clock.now())
    compared = Compared()

    async def happens(row: ObjectRow) -> None:
        world.clock.sleep(60)
        if then_in_parts:
            world.source.complete("k", b"new", world.clock.now())
        else:
            await world.source.put("k", b"new")
        world.clock.sleep(60)
        copy = world.replica.versions["k"][0]
        etag = "of-3" if copy_in_parts else copy.facts.etag
        copy.facts = replace(copy.facts, modified_at=world.clock.now(), etag=etag)

    before = world.source.requests
    assert world.sync(AfterCopy(world.replica, happens), compared=compared).copied == 1
    puts = 0 if then_in_parts else 1
    listing, copy = 1, 1
    assert world.source.requests - before == listing + copy + puts, "it was looked at again"
    assert contents(world.replica) == {"k": b"old"}
    world.clock.sleep(60)
    assert world.sync(compared=Compared.from_bytes(compared.to_bytes())).copied == 1
    assert contents(world.replica) == {"k": b"new"}


class Dated(BucketReplica):
    """Whose server says by how much its copies may be dated after what they read."""

    def __init__(self, bucket: Bucket, seconds: float) -> None:
        super().__init__(bucket)
        self._dated_after = timedelta(seconds=seconds)

    async def copy(self, source: Bucket, row: ObjectRow) -> Copied:
        return replace(await super().copy(source, row), dated_after=self._dated_after)


@pytest.mark.parametrize(("seconds", "looks"), [(0, 0), (1, 0), (2, 10), (900, 10)])
def test_nobody_looks_again_at_what_a_later_sync_would_see(seconds: float, looks: int) -> None:
    world = World()
    world.put(world.source, **{f"k{number}": "content" for number in range(10)})
    before = world.source.requests
    world.sync(Dated(world.replica, seconds), SyncPolicy(opaque_etags=True))
    listings, copies = 1, 10
    assert world.source.requests - before == listings + copies + looks
    assert contents(world.replica) == contents(world.source)


def test_a_reconcile_tells_what_the_events_had_missed() -> None:
    world = World()
    world.put(world.source, missed="1")
    world.clock.sleep(3600)
    world.put(world.source, recent="1")
    done = world.sync()
    assert (done.missed, done.missed_keys) == (1, ("missed",))


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


def event(kind: str, key: str, at: datetime, **detail: Any) -> dict[str, Any]:
    return {
        "source": "aws.s3",
        "detail-type": kind,
        "time": at.isoformat(),
        "detail": {"bucket": {"name": "source"}, "object": {"key": key}, **detail},
    }


def replicate(world: World, told: dict[str, Any], policy: SyncPolicy | None = None) -> Replicated:
    replica = BucketReplica(world.replica)
    wanted = policy or SyncPolicy()
    return asyncio.run(replicate_object(told, world.source, replica, wanted, clock=world.clock))


def test_an_event_brings_its_object_and_says_how_late() -> None:
    world = World(versioned=True)
    world.put(world.source, k="1")
    created = event("Object Created", "k", world.clock.now())
    world.clock.sleep(7)
    done = replicate(world, created)
    assert (done.action, done.lag_seconds) == ("copied", 7.0)
    assert done.version_id == world.replica.versions["k"][0].facts.version_id
    assert contents(world.replica) == {"k": b"1"}
    again = replicate(world, created)
    assert (again.action, again.lag_seconds) == ("already", None)
    assert len(world.replica.versions["k"]) == 1
    assert Replicated.from_json(done.to_json()) == done


def test_an_upload_that_began_before_the_last_copy_is_brought_by_its_event() -> None:
    """S3 dates what was uploaded in parts by the beginning of the upload."""
    world, policy = World(), SyncPolicy(opaque_etags=True)
    world.put(world.source, k="old")
    began_at = world.clock.now()
    world.clock.sleep(60)
    world.put(world.replica, k="old")
    world.clock.sleep(60)
    world.put(world.source, k="new")
    stored = world.source.versions["k"][0]
    stored.facts = replace(stored.facts, modified_at=began_at)
    told = event("Object Created", "k", world.clock.now())
    world.clock.sleep(5)
    assert replicate(world, told, policy).action == "copied"
    assert contents(world.replica) == {"k": b"new"}
    world.clock.sleep(5)
    assert replicate(world, told, policy).action == "already"


class InParts:
    """A key whose upload began before its copy was made, and may end after it."""

    def __init__(self, *, versioned: bool = True) -> None:
        self.world = World(versioned=versioned)
        self.world.put(self.world.source, k="old")
        self.store = InMemoryObjectStore()
        self.pass_time()

    def pass_time(self) -> None:
        self.world.clock.sleep(60)

    def begin(self) -> datetime:
        at = self.world.clock.now()
        self.pass_time()
        return at

    def end(self, begun_at: datetime, content: bytes = b"new") -> None:
        self.pass_time()
        self.world.source.complete("k", content, begun_at)
        self.pass_time()

    def sync(self) -> dict[str, int]:
        """What was decided, by reason; what was compared is kept for the next."""
        compared = load_compared(self.store, "primary")
        policy = SyncPolicy(opaque_etags=True)
        done = self.world.sync(policy=policy, compared=compared)
        save_compared(self.store, "primary", compared.to_bytes())
        self.pass_time()
        return done.reasons

    @property
    def requests_of_a_sync(self) -> int:
        """To the source, besides the listing."""
        before = self.world.source.requests
        assert self.sync() == {"leave copied-later": 1}
        return self.world.source.requests - before - 1

    @property
    def replica(self) -> bytes:
        return contents(self.world.replica)["k"]


def test_an_upload_under_way_at_the_last_sync_is_brought_by_the_next_without_an_event() -> None:
    it = InParts()
    begun_at = it.begin()
    assert it.sync() == {"copy new": 1}
    it.end(begun_at)
    assert it.sync() == {"copy may-be-older": 1}
    assert it.replica == b"new"
    assert it.requests_of_a_sync == 0


def test_an_upload_that_began_and_ended_around_an_event_s_copy_is_brought_by_the_next_sync() -> (
    None
):
    it = InParts()
    begun_at = it.begin()
    it.world.put(it.world.replica, k="old")
    it.end(begun_at)
    assert it.sync() == {"copy may-be-older": 1}
    assert it.replica == b"new"


def test_an_upload_that_replaces_one_of_parts_is_brought_too() -> None:
    it = InParts()
    it.end(it.begin(), b"one")
    assert it.sync() == {"copy new": 1}
    second, third = it.begin(), it.begin()
    it.end(third, b"3rd")
    it.world.put(it.world.replica, k="3rd")
    it.end(second, b"2nd")
    assert it.sync() == {"copy may-be-older": 1}
    assert it.replica == b"2nd"


@pytest.mark.parametrize("versioned", [True, False])
def test_a_copy_of_a_key_with_one_version_is_of_that(versioned: bool) -> None:
    """Where there are no versions, nobody knows: it is copied again, once."""
    it = InParts(versioned=versioned)
    del it.world.source.versions["k"]
    it.end(it.begin())
    it.world.put(it.world.replica, k="new")
    it.pass_time()
    assert it.sync() == ({"leave copied-later": 1} if versioned else {"copy may-be-older": 1})
    assert it.requests_of_a_sync == 0


def test_what_a_sync_has_compared_costs_no_request() -> None:
    it = InParts()
    it.end(it.begin())
    assert it.sync() == {"copy new": 1}
    assert [it.requests_of_a_sync, it.requests_of_a_sync] == [0, 0]


def test_an_ordinary_object_costs_no_request() -> None:
    it = InParts()
    assert it.sync() == {"copy new": 1}
    copy = it.world.replica.versions["k"][0]
    copy.facts = replace(copy.facts, etag="f" * 32)
    assert it.requests_of_a_sync == 0


def test_a_note_that_is_not_understood_tells_nothing() -> None:
    row = ObjectRow("k", 3, "e-2", START)
    compared = Compared()
    compared.add(row)
    note = compared.to_bytes()
    assert Compared.from_bytes(note).knows(row)
    assert not Compared.from_bytes(note).knows(row._replace(etag="e-3"))
    for other in (b"", note[:-1], b"another 1\n" + note, note[:-8]):
        assert not Compared.from_bytes(other).knows(row)


def test_events_out_of_order_and_twice_end_where_the_source_is() -> None:
    policy = SyncPolicy(mirror=True)
    for seed in range(30):
        world = World(versioned=True)
        rng = random.Random(seed)
        events = []
        for number in range(6):
            if rng.random() < 0.4:
                asyncio.run(world.source.delete([("k", "")]))
                events.append(event("Object Deleted", "k", world.clock.now()))
            else:
                world.put(world.source, k=str(number))
                events.append(event("Object Created", "k", world.clock.now()))
            world.clock.sleep(1)
            if rng.random() < 0.5:
                replicate(world, rng.choice(events), policy)
        for told in rng.sample(events * 2, len(events) * 2):
            replicate(world, told, policy)
        assert contents(world.replica) == contents(world.source), seed


def test_a_deletion_is_a_marker_and_only_where_the_plan_mirrors() -> None:
    world = World(versioned=True)
    world.put(world.source, k="1")
    world.put(world.replica, k="1")
    asyncio.run(world.source.delete([("k", "")]))
    deleted = event("Object Deleted", "k", world.clock.now())
    assert replicate(world, deleted).action == "kept"
    assert contents(world.replica) == {"k": b"1"}
    assert replicate(world, deleted, SyncPolicy(mirror=True)).action == "deleted"
    assert contents(world.replica) == {}
    assert [one.data for one in world.replica.versions["k"]] == [None, b"1"]


def test_no_event_deletes_where_it_would_be_for_good() -> None:
    """A thousand deletions are a thousand events, none of which knows of the others."""
    world, store = World(), InMemoryObjectStore()
    mirror = SyncPolicy(mirror=True, max_delete_share=0.05)
    for number in range(40):
        world.put(world.source, **{f"k{number}": "1"})
    replica = StoreReplica(store, "gcs")
    asyncio.run(sync_buckets(world.source, replica, mirror, clock=world.clock))
    before = dict(store.objects)
    for number in range(40):
        asyncio.run(world.source.delete([(f"k{number}", "")]))
        told = event("Object Deleted", f"k{number}", world.clock.now())
        done = asyncio.run(replicate_object(told, world.source, replica, mirror, clock=world.clock))
        assert done.action == "kept"
    assert store.objects == before
    with pytest.raises(Refused):
        asyncio.run(sync_buckets(world.source, replica, mirror, clock=world.clock))
    assert store.objects == before


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


def test_an_old_copy_that_ends_after_a_newer_one_is_seen() -> None:
    """Another invocation brought the newer content while this one was still copying the older."""
    world = World()
    world.put(world.source, k="older")
    told = event("Object Created", "k", world.clock.now())
    left = ["once"]

    async def happens(row: ObjectRow) -> None:
        if left:
            left.pop()
            await world.source.put("k", b"newer")

    replica = AfterCopy(world.replica, happens)
    asyncio.run(replicate_object(told, world.source, replica, SyncPolicy(), clock=world.clock))
    assert contents(world.replica) == {"k": b"newer"}


def test_an_old_version_deleted_changes_nothing() -> None:
    world = World(versioned=True)
    world.put(world.source, k="1")
    world.put(world.source, k="2")
    world.put(world.replica, k="2")
    old = world.source.versions["k"][1].facts.version_id
    asyncio.run(world.source.delete([("k", old)]))
    told = event("Object Deleted", "k", world.clock.now())
    told["detail"]["deletion-type"] = "Permanently Deleted"
    assert replicate(world, told, SyncPolicy(mirror=True)).action == "already"
    assert contents(world.replica) == {"k": b"2"}


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"detail-type": "Object Created", "time": "now", "detail": {}},
        event("Object Restore Completed", "k", START),
        {**event("Object Created", "k", START), "detail": {"bucket": {"name": "other"},
                                                          "object": {"key": "k"}}},
    ],
)  # fmt: skip
def test_what_is_no_event_of_this_bucket_is_refused(told: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        replicate(World(), told)


def test_an_object_that_changes_at_every_copy_is_delivered_again() -> None:
    world = World()
    world.put(world.source, k="0")
    numbers = iter(range(1, 100))

    async def happens(row: ObjectRow) -> None:
        await world.source.put("k", str(next(numbers)).encode())

    told = event("Object Created", "k", world.clock.now())
    replica = Interrupting(world.replica, happens)
    with pytest.raises(DigestMismatch):
        asyncio.run(replicate_object(told, world.source, replica, SyncPolicy(), clock=world.clock))


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
    world = World(versioned=False)
    store = InMemoryObjectStore()
    with pytest.raises(NotReady) as caught:
        asyncio.run(take_inventory(bucket_entries(world.replica), store, "p"))
    assert caught.value.instance_code == "replica-not-versioned"
    assert store.objects == {}


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
