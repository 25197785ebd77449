"""Replication by the events of a bucket: in any order, twice, late, and of other things."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from chalicelib.backup.bucket.replicas import StoreReplica
from chalicelib.backup.bucket.replicate import Replicated, replicate_object
from chalicelib.backup.bucket.sync import sync_buckets
from chalicelib.backup.bucket.sync_decision import SyncPolicy
from chalicelib.errors import BadInput, DigestMismatch, Refused
from chalicelib.ports.buckets import ObjectRow
from tests.fakes import InMemoryObjectStore
from tests.sync_world import START, AfterCopy, Interrupting, World, contents, event, replicate


def test_a_reconcile_tells_what_the_events_had_missed() -> None:
    world = World()
    world.put(world.source, missed="1")
    world.clock.sleep(3600)
    world.put(world.source, recent="1")
    done = world.sync()
    assert (done.missed, done.missed_keys) == (1, ("missed",))


def test_what_an_event_brought_at_once_is_copied_again_and_was_not_missed() -> None:
    """Times of whole seconds prove nothing so near; an alarm each night would be no news."""
    world = World(versioned=True)
    world.source.complete("k", b"1", world.clock.now())
    created = event("Object Created", "k", world.clock.now())
    world.clock.sleep(1)
    assert replicate(world, created).action == "copied"
    world.clock.sleep(7200)
    done = world.sync()
    assert (done.copied, done.reasons) == (1, {"copy same-moment": 1})
    assert (done.missed, done.missed_keys) == (0, ())


def test_no_event_is_missed_where_none_brings_anything() -> None:
    world = World()
    world.put(world.source, old="1")
    world.clock.sleep(7200)
    done = world.sync(policy=SyncPolicy(missed_after=None))
    assert (done.copied, done.missed) == (1, 0)


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


def test_nothing_is_deleted_from_a_replica_whose_versioning_was_suspended() -> None:
    """By whoever wants the data gone: a marker would take the place of what has no version."""
    world, mirror = World(versioned=True), SyncPolicy(mirror=True, max_delete_share=1)
    world.put(world.source, kept="1", k="1")
    world.replica._status = "Suspended"
    world.sync()
    asyncio.run(world.source.delete([("k", "")]))
    told = event("Object Deleted", "k", world.clock.now())
    for act in (lambda: replicate(world, told, mirror), lambda: world.sync(policy=mirror)):
        with pytest.raises(Refused) as caught:
            act()
        assert caught.value.instance_code == "not-versioned"
    assert contents(world.replica) == {"kept": b"1", "k": b"1"}


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
