"""The replica of a bucket against its inventory: in another bucket, and in another cloud."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from chalicelib.backup.bucket.take_inventory import bucket_entries, store_entries, take_inventory
from chalicelib.errors import Damaged, Throttled
from chalicelib.plan.inventory import InventoryEntry
from chalicelib.plan.object_names import name_of_key
from chalicelib.plan.records import RecoveryPoint
from chalicelib.verify.copies.check_run import CheckProgress
from chalicelib.verify.copies.replica import ReplicaResult, check_replica
from chalicelib.verify.copies.replica_contents import (
    BucketContents,
    ReplicaContents,
    StoreContents,
    inventory_entries,
)
from chalicelib.verify.copies.rotation import CheckPolicy
from chalicelib.verify.copies.slots import load_slots, save_slots
from tests.fakes import InMemoryObjectStore
from tests.fakes_buckets import InMemoryBucket, InMemoryBuckets
from tests.integrity_stores import Shelf, SteppedClock

POLICY = CheckPolicy(every=timedelta(hours=6), read_within=timedelta(days=2))
UNREAD = replace(POLICY, read_bytes=0)
LONG = "k" * 800
KEYS = ("a//b", "./z", "dir/", "line\nfeed", "é", LONG, *(f"n{number:03}" for number in range(40)))


@dataclass
class Replica:
    contents: ReplicaContents
    point: RecoveryPoint
    own: InMemoryObjectStore
    clock: SteppedClock
    ledgers: InMemoryObjectStore = field(default_factory=InMemoryObjectStore)
    told: list[CheckProgress] = field(default_factory=list)

    def check(self, policy: CheckPolicy = POLICY, seconds: float | None = None) -> ReplicaResult:
        until = None if seconds is None else self.clock.now() + timedelta(seconds=seconds)
        result, slots = asyncio.run(
            check_replica(
                inventory_entries(self.own, self.point), self.contents,
                load_slots(self.ledgers, "assets/copy", policy), policy,
                point=self.point, location="copy", component="assets", clock=self.clock,
                until=until, tell=self.told.append,
            )
        )  # fmt: skip
        save_slots(self.ledgers, "assets/copy", slots)
        return result


def data_of(key: str) -> bytes:
    return f"data of {key}".encode() * 3


def inventoried(
    entries: AsyncGenerator[InventoryEntry | None, None], clock: SteppedClock
) -> tuple[RecoveryPoint, InMemoryObjectStore]:
    own = InMemoryObjectStore()
    taken = asyncio.run(take_inventory(entries, own, "p1", entries_per_object=7))
    point = RecoveryPoint(
        id="p1", component="assets", kind="objects", taken_at=clock.now(),
        finished_at=clock.now(), objects=taken.objects, source_bytes=taken.bytes,
        encryption="none",
    )  # fmt: skip
    return point, own


def in_bucket() -> tuple[Replica, InMemoryBucket]:
    clock = SteppedClock()
    bucket = InMemoryBuckets(clock.now).create("copy", versioned=True)
    for key in KEYS:
        asyncio.run(bucket.put(key, data_of(key)))
    point, own = inventoried(bucket_entries(bucket), clock)
    return Replica(BucketContents(bucket), point, own, clock), bucket


def in_store() -> tuple[Replica, Shelf]:
    clock = SteppedClock()
    source = InMemoryBuckets(clock.now).create("source")
    shelf = Shelf(clock, checksums=True)
    for key in KEYS:
        asyncio.run(source.put(key, data_of(key)))
        shelf.put(name_of_key(key), data_of(key))
    point, own = inventoried(store_entries(source, shelf), clock)
    return Replica(StoreContents(shelf), point, own, clock), shelf


def codes(result: ReplicaResult) -> set[tuple[str, str]]:
    return {(item.code, item.key) for item in result.findings}


@pytest.mark.parametrize("where", ["bucket", "store"])
def test_a_whole_replica_is_green_and_every_byte_was_read(where: str) -> None:
    replica = in_store()[0] if where == "store" else in_bucket()[0]
    result = replica.check()
    assert result.ok, result
    assert (result.objects, result.read, result.unproven) == (len(KEYS), len(KEYS), 0)
    assert result.read_bytes == result.total_bytes
    seen = [it.read_bytes for it in replica.told]
    assert seen == sorted(seen)
    assert (seen[0], seen[-1]) == (0, result.total_bytes)
    assert {it.to_read_bytes for it in replica.told} == {result.total_bytes}


def test_what_is_missing_or_of_another_size_is_found_without_reading() -> None:
    replica, shelf = in_store()
    for key in ("a//b", LONG):
        shelf.delete(name_of_key(key))
    shelf.rot(name_of_key("n003"), b"short")
    result = replica.check(UNREAD)
    assert codes(result) == {("missing", "a//b"), ("missing", LONG), ("truncated", "n003")}
    assert result.read == 0


def test_damage_is_found_by_reading_and_again_until_it_is_mended() -> None:
    replica, shelf = in_store()
    good = shelf.objects[name_of_key("n007")]
    shelf.rot(name_of_key("n007"), bytes([good[0] ^ 1]) + good[1:])
    assert codes(replica.check()) == {("damaged", "n007")}
    once = replace(POLICY, read_bytes=1)
    assert codes(replica.check(once)) == {("damaged", "n007")}
    shelf.rot(name_of_key("n007"), good)
    assert replica.check(once).ok


def test_a_version_stays_what_it_was_whatever_is_written_later() -> None:
    replica, bucket = in_bucket()
    replica.clock.at += timedelta(hours=1)
    asyncio.run(bucket.put("n001", b"newer"))
    asyncio.run(bucket.delete([("n002", "")]))
    result = replica.check()
    assert (result.ok, result.newer) == (True, 0)
    version = bucket.versions["n003"][0].facts.version_id
    asyncio.run(bucket.delete([("n003", version)]))
    assert codes(replica.check()) == {("missing", "n003")}


def test_without_versions_what_was_written_later_is_told_and_not_judged() -> None:
    replica, shelf = in_store()
    replica.clock.at += timedelta(hours=1)
    shelf.put(name_of_key("n001"), b"newer")
    result = replica.check()
    assert (result.ok, result.newer) == (True, 1)


def test_within_a_budget_every_object_is_read_in_its_time() -> None:
    replica, _ = in_store()
    total = replica.check(UNREAD).total_bytes
    budget = replace(POLICY, read_bytes=2 * total // POLICY.runs)
    for _ in range(3 * POLICY.runs):
        replica.clock.at += POLICY.every
        result = replica.check(budget)
        assert result.ok
        assert result.read < len(KEYS) / 2
        assert result.oldest_unread_at is not None
        assert replica.clock.now() - result.oldest_unread_at <= POLICY.read_within
    replica.clock.at += timedelta(days=3)
    assert {code for code, _ in codes(replica.check(UNREAD))} == {"unread-too-long"}


def test_a_store_that_does_not_answer_is_not_green_and_its_slot_is_read_again() -> None:
    replica, shelf = in_store()
    name = name_of_key("n009")
    shelf.refuse[name] = Throttled("503")
    result = replica.check()
    assert not result.ok
    assert [item.key for item in result.unreached] == ["n009"]
    shelf.refuse.clear()
    shelf.read_keys.clear()
    assert replica.check(replace(POLICY, read_bytes=1)).ok
    assert name in shelf.read_keys


def test_a_check_ends_in_time_when_the_replica_hangs() -> None:
    replica, bucket = in_bucket()

    async def hang(key: str, **_: object) -> AsyncGenerator[bytes, None]:
        await asyncio.sleep(30)
        yield b""

    bucket.get = hang  # type: ignore[method-assign]
    result = replica.check(seconds=0.2)
    assert not result.ok
    assert {item.code for item in result.unreached} == {"deadline"}
    assert result.read == 0


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"read_at":[""],"average_bytes":1}'])
def test_what_was_read_when_can_be_lost(content: bytes) -> None:
    replica, _ = in_store()
    replica.check()
    replica.ledgers.put("checks/assets/copy-objects.json", content)
    assert replica.check().ok


def test_slots_that_a_clock_ahead_has_read_do_not_count_as_read_until_then() -> None:
    replica, _ = in_store()
    replica.clock.at += timedelta(days=365)
    assert replica.check().ok
    replica.clock.at -= timedelta(days=362)
    result = replica.check(UNREAD)
    assert {code for code, _ in codes(result)} == {"unread-too-long"}
    assert result.oldest_unread_seconds == timedelta(days=3).total_seconds()
    assert replica.check(replace(POLICY, read_bytes=None)).ok


def test_a_replica_of_which_an_empty_inventory_names_nothing_is_not_green() -> None:
    replica, _ = in_store()
    empty = asyncio.run(take_inventory(no_entries(), replica.own, "p2"))
    replica.point = replace(replica.point, objects=empty.objects)
    result = replica.check()
    assert (result.objects, result.judged, result.ok) == (0, False, False)


async def no_entries() -> AsyncGenerator[InventoryEntry | None, None]:
    for entry in ():
        yield entry


def test_an_inventory_that_is_damaged_is_an_error() -> None:
    replica, _ = in_store()
    key = replica.point.objects[0].key
    replica.own.objects[key] = b"no zstd"
    with pytest.raises(Damaged):
        replica.check()


@dataclass(frozen=True)
class SlowContents(BucketContents):
    """Each chunk takes a quarter of a minute."""

    clock: SteppedClock = field(default_factory=SteppedClock)
    begun_at: list[int] = field(default_factory=list)
    rotten_at: int = -1

    async def read_on(
        self, entry: InventoryEntry, start: int, version: str
    ) -> AsyncGenerator[bytes, None]:
        self.begun_at.append(start)
        whole = bytearray([chunk async for chunk in super().read_on(entry, 0, version)][0])
        if self.rotten_at >= 0:
            whole[self.rotten_at] ^= 1
        for at in range(start, len(whole), 100):
            self.clock.at += timedelta(seconds=15)
            yield bytes(whole[at : at + 100])


@pytest.mark.parametrize("rotten_at", [-1, 5, 955])
def test_an_object_that_no_single_check_can_read_is_read_by_several(rotten_at: int) -> None:
    clock = SteppedClock()
    bucket = InMemoryBuckets(clock.now).create("copy", versioned=True)
    asyncio.run(bucket.put("long", bytes(range(200)) * 5))
    asyncio.run(bucket.put("short", b"short"))
    point, own = inventoried(bucket_entries(bucket), clock)
    contents = SlowContents(bucket, clock=clock, rotten_at=rotten_at)
    replica = Replica(contents, point, own, clock)
    policy = replace(POLICY, long_bytes=100, read_bytes=None)
    first, results = clock.at, []
    for _ in range(4):
        results.append(replica.check(policy, seconds=60))
        clock.at += timedelta(hours=6)
    assert contents.begun_at == [0, 300, 600, 900]
    assert all(it.ok for it in results[:3]), "it is there, and nothing is known against it"
    assert [it.read for it in results] == [1, 1, 1, 2]
    assert codes(results[3]) == (set() if rotten_at < 0 else {("damaged", "long")})
    if rotten_at < 0:
        slots = load_slots(replica.ledgers, "assets/copy", policy)
        assert not slots.begun
        assert first in slots.read_at, "as of the time of its first byte"
