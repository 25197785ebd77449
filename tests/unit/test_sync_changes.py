"""Objects that change while a sync copies them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from chalicelib.backup.bucket.in_parts import Compared
from chalicelib.backup.bucket.replicas import BucketReplica, Copied
from chalicelib.backup.bucket.sync_decision import SyncPolicy
from chalicelib.ports.buckets import Bucket, ObjectRow
from tests.sync_world import AfterCopy, Interrupting, World, contents


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
