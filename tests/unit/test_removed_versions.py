"""Versions that somebody removed for good, found by an inventory; and what a sync then does."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.backup.bucket.removed_versions import (
    Removals,
    SeenInventory,
    find_removed,
    judge_version,
    without_erasures,
)
from chalicelib.backup.bucket.replicas import BucketReplica
from chalicelib.backup.bucket.replicate import replicate_object
from chalicelib.backup.bucket.shard_plan import plan_shards
from chalicelib.backup.bucket.shards import count_results, do_shard
from chalicelib.backup.bucket.sync import SyncResult, sync_buckets
from chalicelib.backup.bucket.sync_decision import SyncPolicy
from chalicelib.backup.bucket.take_inventory import bucket_entries
from chalicelib.errors import Refused
from chalicelib.plan.inventory import InventoryEntry, SourceVersion
from chalicelib.plan.records import format_time
from chalicelib.plan.shards import ShardPlan
from chalicelib.plan.signs import SeenRule, Sign
from chalicelib.ports.buckets import VersionRow
from chalicelib.verify.signs.judge import judge
from chalicelib.verify.signs.removals import sign_of_removals
from tests.fakes import InMemoryObjectStore
from tests.fakes_versions import START, VersionedBucket

DAY, SECOND = timedelta(days=1), timedelta(seconds=1)
# As in AWS, where the replica's KMS key hides what an ETag would tell.
POLICY = SyncPolicy(opaque_etags=True, mirror=True, max_delete_share=0.5)


class World:
    """A bucket, its replica, and what the last night wrote down of both."""

    def __init__(self) -> None:
        self.source = VersionedBucket("source")
        self.replica = VersionedBucket("replica", self.source.world)
        self.entries: list[InventoryEntry] = []
        self.taken_at = START

    def now(self) -> datetime:
        return self.source.now

    def sleep(self, seconds: float) -> None:
        self.pass_time(timedelta(seconds=seconds))

    def pass_time(self, span: timedelta) -> None:
        self.source.now = self.replica.now = self.source.now + span

    def write(self, key: str, data: str) -> None:
        self.source.write(key, data.encode())
        self.pass_time(SECOND)

    def remove_newest(self, key: str) -> None:
        row = next(it for it in self.source.rows() if it.key == key)
        asyncio.run(self.source.delete([(key, row.version_id)]))

    def sync(self, removals: Removals, **how: bool) -> SyncResult:
        self.pass_time(10 * SECOND)
        replica = BucketReplica(self.replica)
        return asyncio.run(
            sync_buckets(self.source, replica, POLICY, clock=self, removals=removals, **how)
        )

    def night(self) -> SyncResult:
        """A whole one: look, sync, write down."""
        done = self.sync(self.look() if self.entries else Removals())

        async def take() -> list[InventoryEntry]:
            found = [it async for it in bucket_entries(self.replica, source=self.source)]
            return [it for it in found if it is not None]

        self.taken_at, self.entries = self.now(), asyncio.run(take())
        self.pass_time(DAY)
        return done

    def look(self, rules: Sequence[SeenRule] = (), *, cut: int = 2) -> Removals:
        rows = self.entries
        parts = [partial(iter, rows[at : at + cut]) for at in range(0, len(rows), cut)]
        inventory = SeenInventory("20261122T080000Z-objects", self.taken_at, tuple(parts))
        return asyncio.run(find_removed(self.source, inventory, rules))

    def event(self, key: str, kind: str, **detail: str) -> str:
        told = {"bucket": {"name": "source"}, "object": {"key": key}, **detail}
        event = {"detail-type": kind, "time": format_time(self.now()), "detail": told}
        replica = BucketReplica(self.replica)
        done = replicate_object(event, self.source, replica, POLICY, clock=self)
        return asyncio.run(done).action


def test_an_older_version_of_the_same_size_is_told_and_copied() -> None:
    """No time and no ETag tells it: without the inventory the replica would stay as it is."""
    world = World()
    world.write("a", "good")
    world.write("b", "kept")
    world.write("a", "nice")
    world.night()
    world.remove_newest("a")
    assert world.sync(Removals(), dry_run=True).reasons == {
        "leave copied-later": 1, "leave same-etag": 1
    }  # fmt: skip
    done = world.night()
    [gone] = done.removed_versions
    assert (done.removed, gone.key, gone.after) == (1, "a", "older")
    assert (gone.seen_at, gone.point_id) == (START + 13 * SECOND, "20261122T080000Z-objects")
    assert done.reasons == {"copy went-back": 1, "leave same-etag": 1}
    assert done.missed == 0, "no event could have brought it"
    assert world.replica.state() == world.source.state() == {"a": b"good", "b": b"kept"}
    assert b"nice" in [it.data for it in world.replica.versions["a"]], "what was, is below it"
    after = world.night()
    assert (after.removed, after.copied) == (0, 0)


def test_what_was_replaced_or_deleted_and_then_removed_is_told() -> None:
    world = World()
    for key in ("erased", "fine", "hidden", "replaced"):
        world.write(key, "1")
    world.night()
    world.write("replaced", "encrypted")
    world.source.remove("hidden")
    world.write("fine", "2")
    for key in ("replaced", "hidden"):
        newest, named = [it for it in world.source.rows() if it.key == key]
        asyncio.run(world.source.delete([(key, named.version_id)]))
    world.remove_newest("erased")
    found = world.look()
    assert {it.key: it.after for it in found.named} == {
        "erased": "nothing", "hidden": "newer", "replaced": "newer"
    }  # fmt: skip
    assert (found.seen, found.removed, found.went_back) == (4, 3, frozenset())
    assert found.replaced_at == world.taken_at + DAY


def test_a_rule_that_was_there_long_enough_explains_what_was_replaced() -> None:
    world = World()
    for key in ("logs/a", "up/a"):
        world.write(key, "1")
    world.night()
    replaced_at = world.now()
    for key in ("logs/a", "up/a"):
        old = world.source.rows()[-1 if key == "up/a" else 0]
        world.write(key, "2")
        asyncio.run(world.source.delete([(key, old.version_id)]))
    rule = SeenRule("logs/", 1, START, replaced_at + DAY + 5 * SECOND)
    assert [it.key for it in world.look([rule]).named] == ["up/a"]
    short = SeenRule("logs/", 1, START, replaced_at + DAY - SECOND)
    assert [it.key for it in world.look([short]).named] == ["logs/a", "up/a"]


def test_no_rule_makes_an_older_version_the_object_again() -> None:
    world = World()
    for data in "12":
        world.write("a", data)
    world.night()
    world.remove_newest("a")
    rule = SeenRule("", 1, START, world.now() + 100 * DAY)
    assert [it.after for it in world.look([rule]).named] == ["older"]


def test_an_object_of_before_versioning_may_go_by_an_ordinary_write() -> None:
    seen = SourceVersion("null", START, 1, "e")
    new = VersionRow("a", "null", True, False, START + DAY, 1, "f")
    marker = VersionRow("a", "null", True, True, START + DAY)
    assert [judge_version(seen, rows) for rows in ([new], [marker], [])] == [None, None, None]
    versioned = VersionRow("a", "v7", True, False, START + DAY, 1, "f")
    assert judge_version(seen, [versioned]) == "newer"


def test_more_than_the_plan_lets_be_deleted_wait_for_a_person() -> None:
    world = World()
    for data in "12":
        for key in "abc":
            world.write(key, data)
    world.night()
    before = world.replica.state()
    for key in "ab":
        world.remove_newest(key)
    removals = world.look()
    with pytest.raises(Refused) as caught:
        world.sync(removals)
    assert caught.value.instance_code == "too-many-removed"
    assert (world.replica.state(), world.source.state()["a"]) == (before, b"1")
    assert world.sync(removals, dry_run=True).reasons["copy went-back"] == 2
    assert world.sync(removals, approved=True).copied == 2
    assert world.replica.state() == world.source.state()


def test_a_sync_in_shards_does_the_same_also_when_a_worker_died() -> None:
    """A second attempt looks what is there, and finds a copy whose times look right."""
    world, store = World(), InMemoryObjectStore()
    for key, data in (("a", "good"), ("b", "kept"), ("a", "nice")):
        world.write(key, data)
    world.night()
    world.remove_newest("a")
    removals, replica = world.look(), BucketReplica(world.replica)

    def plan(run: str, policy: SyncPolicy) -> ShardPlan:
        return asyncio.run(
            plan_shards(world.source, replica, policy, store, run, clock=world, removals=removals)
        )

    with pytest.raises(Refused) as caught:
        plan("strict", SyncPolicy(opaque_etags=True, max_delete_share=0.1))
    assert caught.value.instance_code == "too-many-removed"
    planned = plan("run", POLICY)
    assert (planned.reasons["copy went-back"], planned.removed, planned.missed) == (1, 1, 0)
    [shard] = planned.shards
    done = asyncio.run(
        do_shard(world.source, replica, POLICY, store, "run", shard, clock=world, recheck=True)
    )
    assert (done.copied, done.left) == (1, 0)
    assert world.replica.state() == world.source.state() == {"a": b"good", "b": b"kept"}
    assert count_results(planned, store, finished_at=world.now()).removed == 1


def test_an_event_of_a_removed_version_overwrites_nothing() -> None:
    """Only a sync knows how many they are. A marker that was removed brings its object at once."""
    world = World()
    for data in ("1", "22"):
        world.write("a", data)
    world.night()
    world.remove_newest("a")
    deleted = {"deletion-type": "Permanently Deleted"}
    assert world.event("a", "Object Deleted", **deleted) == "kept"
    assert world.replica.state() == {"a": b"22"}
    world.source.remove("a")
    assert world.event("a", "Object Deleted") == "deleted"
    world.remove_newest("a")
    assert world.event("a", "Object Deleted", **deleted) == "copied"
    assert world.replica.state() == world.source.state() == {"a": b"1"}


KEYS = st.sampled_from(["a", "a/", "a//b", "b", "é", "～", "😀"])
DEEDS = st.lists(st.tuples(st.sampled_from(["write", "delete", "remove"]), KEYS), max_size=12)


@settings(max_examples=60, deadline=None)
@given(DEEDS, DEEDS, st.integers(1, 4))
def test_each_version_that_was_named_is_there_or_told(
    before: list[tuple[str, str]], since: list[tuple[str, str]], cut: int
) -> None:
    """However the inventory is cut into objects."""
    world = World()

    def do(deeds: list[tuple[str, str]]) -> None:
        for deed, key in deeds:
            if deed == "write":
                world.write(key, "1")
            elif deed == "delete" and key in world.source.state():
                world.source.remove(key)
                world.pass_time(SECOND)
            elif deed == "remove" and any(it.key == key for it in world.source.rows()):
                world.remove_newest(key)

    do(before)
    world.night()
    do(since)
    named = {(it.key, it.source.version) for it in world.entries if it.source}
    found = world.look(cut=cut)
    gone = named - world.source.version_ids()
    assert {(it.key, it.version_id) for it in found.named} == gone
    assert (found.seen, found.removed) == (len(named), len(gone))


def test_what_the_plan_expects_is_not_told_and_an_older_version_always_is() -> None:
    """However many are erased by habit: one that went back is the first that is named."""
    world = World()
    for number in range(150):
        world.write(f"k{number:03}", "1")
    world.write("z", "1")
    world.write("z", "2")
    world.night()
    for number in range(149):
        world.remove_newest(f"k{number:03}")
    erased = without_erasures(world.look(), 0.99)
    assert (erased.removed, erased.erased, erased.named) == (0, 149, ())
    world.remove_newest("z")
    found = without_erasures(world.look(), 0.99)
    assert [(it.key, it.after) for it in found.named] == [("z", "older")]
    assert (found.removed, found.erased, found.went_back) == (1, 149, frozenset("z"))


def test_more_than_the_plan_expects_is_told_whole() -> None:
    world = World()
    for key in ("a", "b", "c", "d"):
        world.write(key, "1")
    world.night()
    for key in ("a", "b"):
        world.remove_newest(key)
    assert without_erasures(world.look(), 0.5).removed == 0
    world.write("c", "encrypted")
    named = world.source.rows()[1]
    asyncio.run(world.source.delete([(named.key, named.version_id)]))
    beyond = without_erasures(world.look(), 0.5)
    assert (beyond.removed, beyond.erased) == (3, 0)
    assert [it.key for it in beyond.named] == ["a", "b", "c"]
    assert beyond.replaced_at is not None


def test_few_are_a_doubt_and_ten_are_for_a_person_and_neither_is_an_infection_alone() -> None:
    world = World()
    for number in range(10):
        world.write(f"k{number}", "1")
    world.night()
    for number in range(9):
        world.remove_newest(f"k{number}")
    few = world.look()
    world.remove_newest("k9")
    many = world.look()
    assert sign_of_removals("source", (), 0, None) is None
    signs = [sign_of_removals("source", it.named, it.removed, it.replaced_at) for it in (few, many)]
    assert [sign.score for sign in signs if sign] == [0.5, 0.85]
    [_, ten] = signs
    assert ten is not None
    assert ten.found.endswith("removed for good: 10: 'k0', 'k1', 'k2', 'k3', 'k4'")
    alone = judge([ten], now=world.now())
    assert (alone.infected, alone.suspicion) == (False, 0.85)
    burst = Sign("burst-deletes", "burst", 0.7, "source", world.now(), "many")
    assert judge([ten, burst], now=world.now()).infected
