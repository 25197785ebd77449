"""Server-side copies in parts, put down and gone on with: no part twice, never of two versions."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from urllib.parse import parse_qs, urlsplit

import pytest

from chalicelib.adapters.s3.bucket import S3Bucket, S3Buckets
from chalicelib.adapters.s3.copy import CopyLimits
from chalicelib.adapters.s3.copy_turns import KEPT, CopyTurns
from chalicelib.adapters.s3.place import Patience
from chalicelib.backup.bucket.replicas import BucketReplica
from chalicelib.backup.bucket.sync import SyncResult, sync_buckets
from chalicelib.backup.bucket.sync_decision import SyncPolicy
from chalicelib.errors import Refused, Throttled, Unavailable
from chalicelib.ports.buckets import CopySource, Written
from chalicelib.recover.bucket.mend import Mended, mend_bucket
from tests.fakes import InMemoryObjectStore
from tests.http_faults import fault_proxy
from tests.s3_answers import answer, error, scripted_server
from tests.s3_servers import S3Server, moto_server, seaweed_server

MIB = 1 << 20
DATA = os.urandom(1 << 16) * 400 + b"and a rest"  # 25 MiB: six parts
PARTS = 6
LIMITS = CopyLimits(whole_bytes=6 * MIB, part_bytes=5 * MIB, parts_at_once=1)
SERVERS = {"moto": moto_server, "seaweedfs": seaweed_server}
AT = datetime(2026, 11, 22, 8, 45, tzinfo=UTC)


class PartClock:
    """Moves on by a minute each time it is asked."""

    def __init__(self, at: datetime = AT) -> None:
        self.at = at

    def now(self) -> datetime:
        self.at += timedelta(minutes=1)
        return self.at

    def sleep(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


@dataclass
class World:
    """A source and a target on one server; `copied` are the numbers of the parts asked for."""

    server: S3Server
    source: str
    target: str
    notes: InMemoryObjectStore = field(default_factory=InMemoryObjectStore)
    clock: PartClock = field(default_factory=PartClock)
    copied: list[int] = field(default_factory=list)
    port: int = 0
    most: int = 2

    def put(self, data: bytes) -> None:
        self.server.client.put_object(
            Bucket=self.source, Key="k", Body=data, Metadata={"owner": "me"}
        )

    def copy(self, minutes: int = 24 * 60) -> Written:
        return asyncio.run(self._copy(minutes))

    async def _copy(self, minutes: int) -> Written:
        async with self.opened(minutes) as (source, target):
            return await target.copy_from(CopySource(source.name, "k"))

    def sync(self, minutes: int) -> SyncResult:
        async def run() -> SyncResult:
            async with self.opened(minutes) as (source, target):
                replica, policy = BucketReplica(target), SyncPolicy(opaque_etags=True)
                return await sync_buckets(source, replica, policy, clock=self.clock)

        return asyncio.run(run())

    def give_up(self) -> list[str]:
        async def run() -> list[str]:
            async with self.opened(60) as (_, target):
                return list(await target.give_up_copies())

        return asyncio.run(run())

    @asynccontextmanager
    async def opened(self, minutes: int) -> AsyncIterator[tuple[S3Bucket, S3Bucket]]:
        """As another process opens them, with so many minutes left."""
        patience = Patience(attempts=self.most, first_pause_seconds=0.01)
        url = f"http://127.0.0.1:{self.port or self.server.port}"
        until = self.clock.at + timedelta(minutes=minutes)
        turns = CopyTurns(
            self.notes, self.target, self.clock, until, save_every=timedelta(seconds=1)
        )
        async with S3Buckets(
            self.server.credentials, patience=patience, copy_limits=LIMITS
        ) as buckets:
            yield (
                buckets.bucket(self.source, "us-east-1", endpoint_url=url),
                buckets.bucket(self.target, "us-east-1", endpoint_url=url, turns=turns),
            )

    def see(self, method: str, path: str, _: int) -> bool:
        """For fault_proxy: notes the part, breaks nothing."""
        query = parse_qs(urlsplit(path).query)
        if method == "PUT" and "partNumber" in query:
            self.copied.append(int(query["partNumber"][0]))
        return False

    @property
    def uploads(self) -> list[str]:
        found = self.server.client.list_multipart_uploads(Bucket=self.target)
        return [it["UploadId"] for it in found.get("Uploads", ())]

    def content(self) -> tuple[bytes, dict[str, str]]:
        found = self.server.client.get_object(Bucket=self.target, Key="k")
        return found["Body"].read(), found["Metadata"]


@pytest.fixture(scope="module")
def servers() -> Iterator[Callable[[str], S3Server]]:
    with ExitStack() as running:
        yield cache(lambda name: running.enter_context(SERVERS[name]()))


@pytest.fixture(params=list(SERVERS))
def world(request: pytest.FixtureRequest, servers: Callable[[str], S3Server]) -> Iterator[World]:
    server = servers(request.param)
    source, target = (server.create_bucket(versioned=True) for _ in range(2))
    made = World(server, source, target)
    made.put(DATA)
    with fault_proxy(server.port, "503", when=made.see) as proxy:
        made.port = proxy.port
        yield made


def put_down_once(world: World) -> int:
    """How many parts were copied before the time was over."""
    with pytest.raises(Unavailable) as caught:
        world.copy(minutes=6)
    assert caught.value.instance_code == "put-down"
    assert len(world.uploads) == 1
    assert 0 < len(world.copied) < PARTS
    return len(world.copied)


def test_a_long_copy_is_gone_on_with_and_no_part_is_copied_twice(world: World) -> None:
    put_down_once(world)
    put_down_once(world)
    assert world.copy().key == "k"
    assert world.copied == list(range(1, PARTS + 1))
    assert world.content() == (DATA, {"owner": "me"})
    assert (world.uploads, world.notes.objects) == ([], {})


def test_a_failure_that_may_pass_leaves_what_was_copied(world: World) -> None:
    def third(method: str, path: str, size: int) -> bool:
        world.see(method, path, size)
        return "partNumber=3" in path

    whole = world.port
    with fault_proxy(world.server.port, "503", times=world.most, when=third) as proxy:
        world.port = proxy.port
        with pytest.raises(Throttled):
            world.copy()
    assert world.copied == [1, 2, *[3] * world.most]
    world.port = whole
    world.copy()
    assert world.copied == [1, 2, *[3] * world.most, 3, 4, 5, 6]
    assert world.content()[0] == DATA
    assert (world.uploads, world.notes.objects) == ([], {})


def test_a_process_that_dies_costs_what_came_after_its_last_note(world: World) -> None:
    put_down_once(world)
    [(name, note)] = world.notes.objects.items()
    put_down_once(world)
    world.notes.objects[name] = note
    again = world.copied[:]
    world.copied.clear()
    world.copy()
    assert world.copied[-1] == PARTS
    assert set(world.copied) | set(again) == set(range(1, PARTS + 1))
    assert 1 not in world.copied
    assert world.content()[0] == DATA


def test_another_version_is_begun_anew_and_the_first_upload_aborted(world: World) -> None:
    put_down_once(world)
    world.put(DATA[::-1])
    world.copied.clear()
    world.copy()
    assert world.copied == list(range(1, PARTS + 1))
    assert world.content()[0] == DATA[::-1]
    assert (world.uploads, world.notes.objects) == ([], {})


@pytest.mark.parametrize("world", ["seaweedfs"], indirect=True)
def test_an_upload_that_somebody_removed_is_begun_anew(world: World) -> None:
    """Not on moto, which fails itself when a part is copied to no upload."""
    put_down_once(world)
    [upload] = world.uploads
    world.server.client.abort_multipart_upload(Bucket=world.target, Key="k", UploadId=upload)
    with pytest.raises(Unavailable) as caught:
        world.copy()
    assert caught.value.instance_code == "upload-gone"
    assert world.notes.objects == {}
    world.copy()
    assert world.content()[0] == DATA


def test_what_nobody_goes_on_with_is_given_up(world: World) -> None:
    put_down_once(world)
    assert world.give_up() == []
    world.clock.at += KEPT
    assert world.give_up() == ["k"]
    assert (world.uploads, world.notes.objects) == ([], {})


def test_a_sync_goes_on_where_the_last_was_put_down(world: World) -> None:
    first = world.sync(minutes=16)
    assert (first.ok, first.put_down, first.copied) == (False, True, 0)
    while not (done := world.sync(minutes=16)).ok:
        assert done.put_down
    assert done.copied == 1
    assert world.copied == list(range(1, PARTS + 1))
    assert world.content()[0] == DATA


def test_what_lost_every_version_comes_back_in_turns(world: World) -> None:
    async def mend(minutes: int) -> Mended:
        async with world.opened(minutes) as (replica, bucket):
            return await mend_bucket(bucket, replica, ["k"], datetime.now(UTC) + KEPT)

    first = asyncio.run(mend(minutes=6))
    assert (first.put_down, first.back, first.failed) == (("k",), (), ())
    while (done := asyncio.run(mend(minutes=6))).put_down:
        assert not done.back
    assert (done.back, done.failed) == (("k",), ())
    assert world.copied == list(range(1, PARTS + 1))
    assert world.content()[0] == DATA
    assert (world.uploads, world.notes.objects) == ([], {})


def test_a_failure_that_stays_aborts_the_upload_and_forgets_it() -> None:
    looked = answer(
        200, b"", 'ETag: "e"', "Last-Modified: Sun, 22 Nov 2026 08:30:00 GMT", length=len(DATA)
    )
    answers = [
        looked, looked,
        answer(200, b"<InitiateMultipartUploadResult><UploadId>u1</UploadId>"
                    b"</InitiateMultipartUploadResult>"),
        error(403, "AccessDenied"), answer(204),
    ]  # fmt: skip
    with scripted_server(answers) as server:
        world = World(S3Server("scripted", server.url, "AKIA", "secret"), "source", "target")
        with pytest.raises(Refused):
            world.copy()
        assert server.asked[-1].startswith("DELETE /target/k?uploadId=u1 ")
        assert world.notes.objects == {}
