"""One suite for the port Bucket: in memory, on moto, on SeaweedFS."""

from __future__ import annotations

import asyncio
import hashlib
import os
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import pytest

from chalicelib.adapters.s3.bucket import S3Buckets
from chalicelib.adapters.s3.copy import CopyLimits
from chalicelib.adapters.s3.place import Patience
from chalicelib.errors import BadInput, DigestMismatch, NotReady, Refused, Truncated
from chalicelib.ports.buckets import Bucket, CopySource
from tests.fakes_buckets import InMemoryBuckets
from tests.s3_servers import S3Server, moto_server, seaweed_server

T = TypeVar("T")
MIB = 1 << 20
PATIENCE = Patience(attempts=3, first_pause_seconds=0.01)
ODD_KEYS = [
    "a//b", "./z", "x/../y", "..", "a/./b", "/lead", "dir/", "tab\tk", "new\nline", "cr\rx",
    "a\x01b", "é/ü", "日本/😀", "+plus", "a b", " lead", "trail ", "%41", "&amp;<x>", "q?u=e#r",
    "~-_.!*'()", "back\\slash", '"quote"', "plus+ %2B", "k" * 1024,
]  # fmt: skip
# What each server cannot hold, so that nobody takes it for ours: moto's router gives 404 for a
# newline and its version listing writes control characters raw; SeaweedFS is a tree of files whose
# version listing ignores encoding-type.
CANNOT = {
    "memory": set(),
    "moto": {"new\nline", "cr\rx", "a\x01b"},
    "seaweedfs": {
        "a//b", "./z", "x/../y", "..", "a/./b", "/lead", "dir/", "back\\slash", "a\x01b",
        "k" * 1024,
    },
}  # fmt: skip


@dataclass
class Cloud:
    """Buckets of one kind; `run` gives the work two empty ones, both with versions or none."""

    name: str
    server: S3Server | None = None

    def run(
        self, work: Callable[[Any, Any], Awaitable[T]], *, versioned: bool = True, **how: Any
    ) -> T:
        async def in_memory() -> T:
            world = InMemoryBuckets()
            names = ("one", "two")
            return await work(*(world.create(name, versioned=versioned) for name in names))

        async def on_server(server: S3Server) -> T:
            async with S3Buckets(server.credentials, patience=PATIENCE, **how) as buckets:
                names = [server.create_bucket(versioned=versioned) for _ in range(2)]
                opened = (
                    buckets.bucket(name, "us-east-1", endpoint_url=server.url) for name in names
                )
                return await work(*opened)

        return asyncio.run(in_memory() if self.server is None else on_server(self.server))


@pytest.fixture(scope="module")
def moto() -> Iterator[S3Server]:
    with moto_server() as server:
        yield server


@pytest.fixture(scope="module")
def seaweedfs() -> Iterator[S3Server]:
    with seaweed_server() as server:
        yield server


@pytest.fixture(params=["memory", "moto", "seaweedfs"])
def cloud(request: pytest.FixtureRequest) -> Cloud:
    name = str(request.param)
    return Cloud(name, None if name == "memory" else request.getfixturevalue(name))


async def every(rows: AsyncIterator[T]) -> list[T]:
    return [row async for row in rows]


async def content(bucket: Bucket, key: str, **how: Any) -> bytes:
    return b"".join([chunk async for chunk in bucket.get(key, **how)])


def test_odd_keys_pass_unchanged(cloud: Cloud) -> None:
    keys = [key for key in ODD_KEYS if key not in CANNOT[cloud.name]]

    async def work(one: Bucket, two: Bucket) -> None:
        for key in keys:
            await one.put(key, key.encode())
            await two.copy_from(CopySource(one.name, key, size_bytes=len(key.encode())))
        for bucket in (one, two):
            rows = await every(bucket.list())
            assert [row.key for row in rows] == sorted(keys, key=str.encode)
            for key in keys:
                assert await content(bucket, key) == key.encode()
                assert (await bucket.head(key)).size_bytes == len(key.encode())
            versions = await every(bucket.list_versions())
            assert [row.key for row in versions] == sorted(keys, key=str.encode)
        deleted = await two.delete([(key, "") for key in keys])
        assert not deleted.failed
        assert sorted(deleted.done) == sorted((key, "") for key in keys)
        assert await every(two.list()) == []

    cloud.run(work, versioned=False)


def test_a_control_character_is_listed_and_deleted(moto: S3Server) -> None:
    """moto holds these keys; only its version listing breaks."""
    keys = ["a\x01b", "cr\rx"]

    async def work(one: Bucket, two: Bucket) -> None:
        for key in keys:
            await one.put(key, b"1")
        assert [row.key for row in await every(one.list())] == keys
        assert not (await one.delete([(key, "") for key in keys])).failed
        assert await every(one.list()) == []

    Cloud("moto", moto).run(work, versioned=False)


@pytest.mark.parametrize("key", ["k" * 1025, "bad\udcff"])
def test_keys_that_s3_has_not_are_refused_before_anything_is_sent(moto: S3Server, key: str) -> None:
    async def work(one: Any, two: Any) -> None:
        with pytest.raises(BadInput):
            await one.put(key, b"")
        assert one.requests == 0

    Cloud("moto", moto).run(work)


def test_a_listing_is_bounded_and_in_byte_order(cloud: Cloud) -> None:
    keys = ["B", "a", "a/1", "a/2", "b", "b/1", "b/c/1", "é", "～", "😀"]

    async def work(one: Bucket, two: Bucket) -> None:
        for key in reversed(keys):
            await one.put(key, key.encode())
        in_order = sorted(keys, key=str.encode)

        async def names(*prefix: str, **how: str) -> list[str]:
            return [row.key async for row in one.list(*prefix, **how)]

        assert await names() == in_order
        assert await names("a/") == ["a/1", "a/2"]
        assert await names(start_after="a/1", end_before="b/1") == ["a/2", "b"]
        assert await every(one.prefixes()) == ["a/", "b/"]
        assert await every(one.prefixes("b/")) == ["b/c/"]
        assert await every(one.prefixes(start_after="a/1")) == ["b/"]
        row = (await every(one.list("a/1")))[0]
        assert row.etag == hashlib.md5(b"a/1", usedforsecurity=False).hexdigest()
        assert row.size_bytes == 3
        assert abs((datetime.now(UTC) - row.modified_at).total_seconds()) < 60

    cloud.run(work, versioned=False)


def test_a_listing_out_of_order_is_an_error_and_no_listing(seaweedfs: S3Server) -> None:
    """SeaweedFS walks its folders: `a/1` comes before `a-b`, which in bytes it does not."""

    async def work(one: Bucket, two: Bucket) -> None:
        for key in ("a/1", "a-b", "a/2"):
            await one.put(key, b"")
        with pytest.raises(NotReady) as caught:
            await every(one.list())
        assert caught.value.instance_code == "listing-unordered"

    Cloud("seaweedfs", seaweedfs).run(work, versioned=False)


def test_versions_and_markers_stand_in_the_order_they_were_made(cloud: Cloud) -> None:
    async def work(one: Bucket, two: Bucket) -> None:
        first = await one.put("k", b"1")
        # moto's times have whole seconds, and its pages hold versions, then markers.
        pause = 1.1 if cloud.name == "moto" else 0
        await asyncio.sleep(pause)
        await one.put_markers(["k"])
        await asyncio.sleep(pause)
        third = await one.put("k", b"333")
        await one.put("l", b"")
        await one.put_markers(["l"])
        rows = await every(one.list_versions())
        assert [(r.key, r.is_marker, r.is_latest, r.size_bytes) for r in rows] == [
            ("k", False, True, 3), ("k", True, False, 0), ("k", False, False, 1),
            ("l", True, True, 0), ("l", False, False, 0),
        ]  # fmt: skip
        assert [rows[0].version_id, rows[2].version_id] == [third.version_id, first.version_id]
        assert await content(one, "k", version_id=first.version_id) == b"1"
        after = await every(one.list_versions(key_marker="k", through="k"))
        assert after == []
        after = await every(one.list_versions(key_marker="k"))
        assert [row.key for row in after] == ["l", "l"]
        await one.delete([("k", rows[0].version_id), ("k", rows[1].version_id)])
        assert await content(one, "k") == b"1"
        after = await every(one.list_versions(key_marker="k"))
        assert [row.key for row in after] == ["l", "l"]
        before = await every(one.list_versions(through="k"))
        assert [row.key for row in before] == ["k"]

    cloud.run(work)


def test_a_marker_is_never_put_where_it_would_lose_data(cloud: Cloud) -> None:
    async def work(one: Bucket, two: Bucket) -> None:
        await one.put("k", b"1")
        with pytest.raises(Refused) as caught:
            await one.put_markers(["k"])
        assert caught.value.instance_code == "not-versioned"
        assert await content(one, "k") == b"1"

    cloud.run(work, versioned=False)


def test_a_copy_has_what_the_original_had(cloud: Cloud) -> None:
    headers = {"Content-Type": "text/plain", "Cache-Control": "max-age=1"}

    async def work(one: Bucket, two: Bucket) -> None:
        data = os.urandom(1000)
        put = await one.put("k", data, metadata={"owner": "a+b c"}, headers=headers)
        await one.put("k", b"newer")
        source = CopySource(one.name, "k", version_id=put.version_id)
        written = await two.copy_from(source, to_key="other")
        assert await content(two, "other") == data
        facts = await two.head("other")
        assert facts.metadata == {"owner": "a+b c"}
        assert headers.items() <= facts.headers.items()
        assert facts.etag == written.etag == put.etag
        if cloud.name != "seaweedfs":  # it ignores the wish for a checksum of a copy
            expected = b64encode(hashlib.sha256(data).digest()).decode()
            assert written.checksums["SHA256"] == facts.checksums["SHA256"] == expected

    cloud.run(work)


@pytest.mark.parametrize("server", ["moto", "seaweedfs"])
def test_a_copy_says_how_much_later_it_may_be_dated_than_what_it_read(
    server: str, request: pytest.FixtureRequest
) -> None:
    """By the server's own times: never less than by those that a listing shows afterwards."""

    async def work(one: Bucket, two: Bucket) -> None:
        await one.put("k", b"content")
        for _ in range(5):
            asked_at = datetime.now(UTC).replace(microsecond=0)
            written = await two.copy_from(CopySource(one.name, "k", size_bytes=7))
            [row] = await every(two.list())
            assert written.dated_after is not None
            assert row.modified_at.replace(microsecond=0) - asked_at <= written.dated_after
            await asyncio.sleep(0.23)

    Cloud(server, request.getfixturevalue(server)).run(work)


def test_a_copy_keeps_tags_and_storage_class_whole_or_in_parts(moto: S3Server) -> None:
    tags = {"team": "a b", "über": "x + y="}

    async def work(one: Bucket, two: Bucket) -> None:
        data = os.urandom(12 * MIB)
        moto.client.put_object(
            Bucket=one.name, Key="k/ü", Body=data, StorageClass="STANDARD_IA",
            Tagging="team=a+b&%C3%BCber=x+%2B+y%3D", Metadata={"owner": "me"},
            ContentType="image/x", ContentEncoding="gzip", CacheControl="no-store",
        )  # fmt: skip
        source = CopySource(one.name, "k/ü")
        for key in ("parts", "whole"):
            if key == "whole":
                moto.client.delete_object(Bucket=two.name, Key="parts")
            written = await two.copy_from(source, to_key=key)
            facts = await two.head(key)
            assert await content(two, key) == data
            assert facts.etag == written.etag
            assert facts.storage_class == "STANDARD_IA"
            assert facts.metadata == {"owner": "me"}
            assert facts.headers["Content-Type"] == "image/x"
            assert facts.headers["Content-Encoding"] == "gzip"
            assert facts.headers["Cache-Control"] == "no-store"
            assert facts.tag_count == 2
            assert await two.tags(key) == tags

    cloud = Cloud("moto", moto)
    in_parts = CopyLimits(whole_bytes=6 * MIB, part_bytes=5 * MIB)
    cloud.run(work, copy_limits=in_parts)
    cloud.run(work)


def test_a_large_copy_in_parts_is_whole(seaweedfs: S3Server) -> None:
    data = os.urandom(13 * MIB)

    async def work(one: Bucket, two: Bucket) -> None:
        await one.put("k", data, metadata={"owner": "me"})
        written = await two.copy_from(CopySource(one.name, "k"))
        assert await content(two, "k") == data
        assert (await two.head("k")).metadata == {"owner": "me"}
        assert written.etag.endswith("-3")

    limits = CopyLimits(whole_bytes=6 * MIB, part_bytes=5 * MIB)
    Cloud("seaweedfs", seaweedfs).run(work, copy_limits=limits)


def test_a_source_that_changed_is_not_copied(seaweedfs: S3Server) -> None:
    """Not on moto, which ignores the condition on a copy's source."""

    async def work(one: Bucket, two: Bucket) -> None:
        old = await one.put("k", b"old")
        await one.put("k", b"new")
        with pytest.raises(DigestMismatch) as caught:
            await two.copy_from(CopySource(one.name, "k", etag=old.etag, size_bytes=3))
        assert caught.value.instance_code == "object-changed"
        assert await every(two.list()) == []

    Cloud("seaweedfs", seaweedfs).run(work)


def test_ranges_and_empty_objects(cloud: Cloud) -> None:
    async def work(one: Bucket, two: Bucket) -> None:
        data = os.urandom(300_000)
        await one.put("k", data)
        await one.put("empty", b"")
        assert await content(one, "empty") == b""
        assert await content(one, "k", start=100, end=200_000) == data[100:200_000]
        assert await content(one, "k", start=299_990) == data[299_990:]
        assert await content(one, "k", start=299_990, end=400_000) == data[299_990:]
        with pytest.raises(DigestMismatch):
            await content(one, "k", etag="0" * 32)

    cloud.run(work)


def test_a_body_in_an_encoding_stays_as_it_is_stored(cloud: Cloud) -> None:
    import gzip

    data = gzip.compress(b"x" * 1000)

    async def work(one: Bucket, two: Bucket) -> None:
        await one.put("k", data, headers={"Content-Encoding": "gzip"})
        assert await content(one, "k") == data

    cloud.run(work)


def test_put_replaces(cloud: Cloud) -> None:
    async def work(one: Bucket, two: Bucket) -> None:
        await one.put("k", b"1")
        await one.put("k", b"3")
        assert await content(one, "k") == b"3"

    cloud.run(work)


def test_what_is_not_there_is_named(cloud: Cloud) -> None:
    async def work(one: Bucket, two: Bucket) -> None:
        for attempt in (
            lambda: one.head("absent"),
            lambda: content(one, "absent"),
            lambda: two.copy_from(CopySource(one.name, "absent", size_bytes=1)),
        ):
            with pytest.raises(Truncated) as caught:
                await attempt()
            assert caught.value.instance_code == "object-missing"

    cloud.run(work)


def test_more_than_a_batch_and_more_than_a_page(seaweedfs: S3Server) -> None:
    async def work(one: Bucket, two: Bucket) -> None:
        keys = [f"k{number:05}" for number in range(1_050)]
        gate = asyncio.Semaphore(64)

        async def put(key: str) -> None:
            async with gate:
                await one.put(key, b"")

        await asyncio.gather(*(put(key) for key in keys))
        assert [row.key for row in await every(one.list())] == keys
        deleted = await one.delete([(key, "") for key in keys])
        assert len(deleted.done) == 1_050
        assert await every(one.list()) == []
        rows = await every(one.list_versions())
        assert [row.is_marker for row in rows] == [True, False] * 1_050

    Cloud("seaweedfs", seaweedfs).run(work)


def test_a_bucket_that_is_not_there_is_named(moto: S3Server) -> None:
    async def work() -> None:
        async with S3Buckets(moto.credentials, patience=PATIENCE) as buckets:
            bucket = buckets.bucket("no-such-bucket", "us-east-1", endpoint_url=moto.url)
            with pytest.raises(NotReady) as caught:
                await every(bucket.list())
            assert caught.value.instance_code == "no-bucket"

    asyncio.run(work())
