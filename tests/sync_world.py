"""Two buckets in memory, a clock that stands, and what syncs and events do with them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import zstandard
from hypothesis import strategies as st

from chalicelib.backup.bucket.replicas import BucketReplica, Copied
from chalicelib.backup.bucket.replicate import Replicated, replicate_object
from chalicelib.backup.bucket.sync import SyncResult, sync_buckets
from chalicelib.backup.bucket.sync_decision import SyncPolicy
from chalicelib.ports.buckets import Bucket, ObjectRow
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
    """`versioned`: the user's bucket; a replica always is."""

    def __init__(self, *, versioned: bool = False) -> None:
        self.clock = Ticking()
        self.buckets = InMemoryBuckets(self.clock.now)
        self.source = self.buckets.create("source", versioned=versioned)
        self.replica = self.buckets.create("replica", versioned=True)

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


class Interrupting(BucketReplica):
    """Something else happens right before a copy."""

    def __init__(self, bucket: Bucket, happens: Any) -> None:
        super().__init__(bucket)
        self._happens = happens

    async def copy(self, source: Bucket, row: ObjectRow) -> Copied:
        await self._happens(row)
        return await super().copy(source, row)


class AfterCopy(BucketReplica):
    """The source is written between a copy and its end, once, and by nobody's ETag."""

    def __init__(self, bucket: Bucket, happens: Any) -> None:
        super().__init__(bucket)
        self._happens = happens

    async def copy(self, source: Bucket, row: ObjectRow) -> Copied:
        copied = await super().copy(source, row)
        await self._happens(row)
        return copied


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
