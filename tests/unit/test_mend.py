"""What lost its versions for good comes back from the replica; nothing else does."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from chalicelib.ports.buckets import VersionRow
from chalicelib.recover.bucket.mend import Mended, mend_bucket
from tests.fakes_buckets import InMemoryBucket, InMemoryBuckets

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


class World:
    """A bucket and its replica, one minute a change."""

    def __init__(self) -> None:
        self.at = NOON
        buckets = InMemoryBuckets(lambda: self.at)
        self.bucket = buckets.create("assets", versioned=True)
        self.replica = buckets.create("replica", versioned=True)

    def put(self, key: str, data: bytes, *where: InMemoryBucket) -> None:
        for bucket in where or (self.bucket, self.replica):
            asyncio.run(bucket.put(key, data))
        self.at += timedelta(minutes=1)

    def remove_all(self, key: str) -> None:
        del self.bucket.versions[key]

    def mend(self, *keys: str, moment: datetime) -> Mended:
        return asyncio.run(mend_bucket(self.bucket, self.replica, keys, moment))

    def get(self, key: str) -> bytes:
        async def read() -> bytes:
            return b"".join([chunk async for chunk in self.bucket.get(key)])

        return asyncio.run(read())


def test_what_has_no_version_left_is_what_the_replica_had_then() -> None:
    world = World()
    for key in ("a", "a/b", "kept"):
        world.put(key, f"good {key}".encode())
    moment = world.at
    world.at += timedelta(minutes=1)
    world.put("a", b"noise")
    world.remove_all("a")
    world.put("a", b"noise", world.bucket)
    asyncio.run(world.bucket.put_markers(["a"]))
    world.remove_all("a/b")
    mended = world.mend("a", "a/b", "kept", moment=moment)
    assert (mended.back, mended.there, mended.gone) == (("a", "a/b"), ("kept",), ())
    assert world.get("a") == b"good a"
    assert world.get("a/b") == b"good a/b"
    again = world.mend("a", "a/b", "kept", moment=moment)
    assert (again.back, again.there) == ((), ("a", "a/b", "kept"))


def test_what_is_in_neither_is_named_and_what_came_later_stays() -> None:
    world = World()
    moment = world.at
    world.at += timedelta(minutes=1)
    world.put("later", b"new")
    world.put("never", b"x", world.replica)
    mended = world.mend("later", "never", "unheard-of", moment=moment)
    assert (mended.there, mended.gone) == (("later",), ("never", "unheard-of"))
    assert world.get("later") == b"new"


def test_an_older_version_that_is_left_is_not_taken_for_the_one_that_is_gone() -> None:
    """An inventory names the version; whoever removed it left the one before."""
    world = World()
    world.put("a", b"first")
    world.put("a", b"second")
    world.put("b", b"only")
    moment = world.at
    named: dict[str, VersionRow | None] = {}
    for key in ("a", "b"):
        version = world.replica.versions[key][0].facts
        named[key] = VersionRow(
            key, version.version_id, is_latest=True, is_marker=False,
            modified_at=version.modified_at, size_bytes=version.size_bytes,
        )  # fmt: skip
    del world.bucket.versions["a"][0]
    world.at += timedelta(minutes=1)
    world.put("a", b"noise", world.replica)

    def mend(vanished: dict[str, VersionRow | None]) -> Mended:
        return asyncio.run(mend_bucket(world.bucket, world.replica, [], moment, vanished))

    mended = mend(named)
    assert (mended.back, mended.there) == (("a",), ("b",))
    assert world.get("a") == b"second"
    assert mend(named).back == ()
    del world.replica.versions["a"][1]
    world.put("a", b"noise", world.bucket)
    assert mend(named).gone == ("a",)
    assert mend({"a": None}).back == ("a",)
    assert world.get("a") == b"first"
