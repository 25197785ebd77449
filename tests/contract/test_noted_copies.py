"""Copies of a bucket in Google's and Azure's stores that somebody writes over, in the same size."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pytest

from chalicelib.adapters.azure.store import AzureObjectStore
from chalicelib.adapters.catalogue import StoredCatalogue
from chalicelib.adapters.clock import SystemClock
from chalicelib.adapters.gcs.resources import related
from chalicelib.adapters.gcs.store import GcsObjectStore
from chalicelib.adapters.http.service import Answer, HttpService, Request
from chalicelib.backup.bucket.replicas import BucketReplica, Replica, StoreReplica
from chalicelib.backup.bucket.replicate import replicate_object
from chalicelib.backup.bucket.sync import SyncResult, sync_buckets
from chalicelib.backup.bucket.sync_decision import SyncPolicy
from chalicelib.backup.bucket.take_inventory import bucket_entries, take_inventory
from chalicelib.plan.object_names import name_of_key
from chalicelib.plan.records import RecoveryPoint
from chalicelib.ports import ObjectStore, notes_of
from chalicelib.verify.copies.integrity import CheckResult
from chalicelib.verify.copies.location import verify_location
from chalicelib.verify.copies.replica import ReplicaResult, check_replica
from chalicelib.verify.copies.replica_contents import StoreContents, inventory_entries
from chalicelib.verify.copies.rotation import CheckPolicy
from chalicelib.verify.copies.slots import load_slots
from tests.fakes import InMemoryObjectStore
from tests.fakes_buckets import InMemoryBucket, InMemoryBuckets
from tests.fakes_keys import sealed
from tests.integrity_stores import SteppedClock, sha256
from tests.stores import Backend, running_backend
from tests.sync_world import event

UNREAD = CheckPolicy(every=timedelta(hours=6), read_within=timedelta(days=30), read_bytes=0)
READ = replace(UNREAD, read_bytes=None)
LONG, LARGE = "k" * 800, "large//odd"
BEFORE = timedelta(days=3)
NOW = datetime.now(UTC)
OBJECTS = {
    **{key: f"data of {key}".encode() for key in ("a//b", "./z", "é", "line\nfeed", LONG, "plain")},
    "empty": b"",
    LARGE: os.urandom(5 << 20),
}


@pytest.fixture(scope="module")
def backends() -> Iterator[Callable[[str], Backend]]:
    with ExitStack() as running:
        yield cache(lambda name: running.enter_context(running_backend(name)))


@dataclass
class World:
    """A bucket, its replica in AWS, and the copies that `store` holds; both buckets are days old.

    `cloud`: what lies below `store`, sealed or not.
    """

    cloud: GcsObjectStore | AzureObjectStore
    store: ObjectStore
    source: InMemoryBucket
    replica: InMemoryBucket
    buckets: InMemoryBuckets

    def put(self, key: str, data: bytes, *, age: timedelta = BEFORE) -> None:
        self.buckets.now = lambda: datetime.now(UTC) - age
        asyncio.run(self.source.put(key, data))

    def sync(self) -> SyncResult:
        return self._sync(StoreReplica(self.store, "elsewhere", threads=4))

    def bring(self, key: str) -> str:
        """As S3's event of it does; what became of it."""
        target, told = StoreReplica(self.store, "elsewhere"), event("Object Created", key, NOW)
        policy = SyncPolicy(opaque_etags=True)
        work = replicate_object(told, self.source, target, policy, clock=SystemClock())
        return asyncio.run(work).action

    def take(self) -> None:
        """The nightly inventory of the replica in AWS."""
        self._sync(BucketReplica(self.replica))
        self.own = InMemoryObjectStore()
        entries = bucket_entries(self.replica, source=self.source)
        taken = asyncio.run(take_inventory(entries, self.own, "p1"))
        # Azure tells whole seconds.
        now = datetime.now(UTC).replace(microsecond=0)
        self.point = RecoveryPoint(
            id="p1", component="assets", kind="objects", taken_at=now, finished_at=now,
            objects=taken.objects, source_bytes=taken.bytes, encryption="none",
        )  # fmt: skip

    def check(self, policy: CheckPolicy = UNREAD) -> ReplicaResult:
        clock = SteppedClock(datetime.now(UTC) + timedelta(minutes=5))
        slots = load_slots(InMemoryObjectStore(), "assets/elsewhere", policy)
        contents, entries = StoreContents(self.store), inventory_entries(self.own, self.point)
        work = check_replica(
            entries, contents, slots, policy,
            point=self.point, location="elsewhere", component="assets", clock=clock,
        )  # fmt: skip
        return asyncio.run(work)[0]

    def _sync(self, target: Replica) -> SyncResult:
        policy = SyncPolicy(opaque_etags=True)
        done = asyncio.run(sync_buckets(self.source, target, policy, clock=SystemClock()))
        assert done.ok
        return done


@pytest.fixture(params=["gcs", "gcs-sealed", "azure", "azure-sealed"])
def world(request: pytest.FixtureRequest, backends: Callable[[str], Backend]) -> World:
    backend = backends(request.param.partition("-")[0])
    cloud: Any = backend.store(backend.bucket(), "assets/")
    buckets = InMemoryBuckets()
    source, replica = (buckets.create(name, versioned=True) for name in ("source", "replica"))
    store = sealed(cloud) if request.param.endswith("sealed") else cloud
    made = World(cloud, store, source, replica, buckets)
    for key, data in OBJECTS.items():
        made.put(key, data)
    made.sync()
    made.take()
    return made


class Stranger:
    """Somebody with a key of the cloud, and tools of its own."""

    def __init__(self, cloud: GcsObjectStore | AzureObjectStore) -> None:
        self.cloud = cloud

    def write_over(self, name: str, *, keeping: bool) -> None:
        """With other bytes of the same size. `keeping`: all that was noted with the object."""
        data = os.urandom(self.cloud.facts(name).size_bytes)
        noted = self._noted(name) if keeping else {}
        if isinstance(self.cloud, GcsObjectStore):
            self._put(name, data, noted)
        else:
            self._put_blocks(name, data, noted)

    def copy(self, name: str, to_name: str) -> None:
        """An object and all that was noted with it, under the name of another."""
        self._put(to_name, self.cloud.get(name), self._noted(name))

    def _noted(self, name: str) -> dict[str, str]:
        found = self.cloud._head(name)
        if isinstance(found, Answer):
            return {key: it for key, it in found.headers.items() if key.startswith("x-ms-meta-")}
        return dict(found["metadata"])

    def _put(self, name: str, data: bytes, noted: dict[str, str]) -> None:
        if isinstance(self.cloud, AzureObjectStore):
            headers = {"x-ms-blob-type": "BlockBlob", **noted}
            self._call(Request("PUT", self.cloud._blob(name), headers, data))
            return
        resource = {"name": self.cloud._names.name(name), "metadata": noted}
        boundary, body = related(resource, data)
        headers = {"Content-Type": f"multipart/related; boundary={boundary}"}
        address = self.cloud._upload({"uploadType": "multipart"})
        self._call(Request("POST", address, headers, body))

    def _put_blocks(self, name: str, data: bytes, noted: dict[str, str]) -> None:
        """Their list tells no checksum of the whole."""
        assert isinstance(self.cloud, AzureObjectStore)
        blob = self.cloud._blob(name)
        self._call(Request("PUT", f"{blob}?comp=block&blockid=AAAA", {}, data))
        listed = b"<BlockList><Uncommitted>AAAA</Uncommitted></BlockList>"
        self._call(Request("PUT", f"{blob}?comp=blocklist", noted, listed))

    def _call(self, request: Request) -> None:
        answer = self.cloud._service.call(request)
        assert answer.status in (200, 201), answer.body


def codes(result: ReplicaResult | CheckResult) -> set[tuple[str, str]]:
    return {(item.code, item.key) for item in result.findings}


@pytest.mark.parametrize("keeping", [False, True], ids=["plainly", "keeping-notes"])
def test_what_a_stranger_wrote_over_is_found_without_reading_and_mended(
    world: World, keeping: bool
) -> None:
    whole = world.check()
    assert (whole.ok, whole.objects, whole.newer) == (True, len(OBJECTS), 0)
    assert world.sync().reasons == {"leave same-etag": len(OBJECTS)}
    stranger, wronged = Stranger(world.cloud), ("plain", "a//b", LONG, LARGE)
    for key in wronged:
        stranger.write_over(name_of_key(key), keeping=keeping)
    found = world.check()
    assert codes(found) == {("overwritten", key) for key in wronged}
    assert (found.read, found.newer) == (0, 0)
    done = world.sync()
    rest = len(OBJECTS) - len(wronged)
    assert done.reasons == {"copy overwritten": len(wronged), "leave same-etag": rest}
    assert done.missed == 0, "no event would have told"
    mended = world.check(READ)
    assert (mended.ok, mended.read, mended.newer) == (True, len(OBJECTS), 0)


def test_a_copy_under_the_name_of_another_object_is_found_without_reading(world: World) -> None:
    world.put("twin", OBJECTS["plain"][::-1])
    world.sync()
    world.take()
    Stranger(world.cloud).copy(name_of_key("plain"), name_of_key("twin"))
    found = world.check()
    assert (codes(found), found.read) == ({("overwritten", "twin")}, 0)
    assert world.sync().reasons["copy overwritten"] == 1
    assert world.check(READ).ok


def test_what_the_bucket_itself_changed_is_no_finding(world: World) -> None:
    """Not brought here yet, brought, and with the same content again."""
    world.put("plain", OBJECTS["plain"][::-1], age=timedelta(0))
    waiting = world.check()
    assert (waiting.ok, waiting.newer) == (True, 0), "it still is what the inventory says"
    assert world.sync().reasons["copy etag"] == 1
    brought = world.check()
    assert (brought.ok, brought.newer, brought.objects) == (True, 1, len(OBJECTS) - 1)
    world.put("plain", OBJECTS["plain"], age=timedelta(0))
    world.sync()
    again = world.check(READ)
    assert (again.ok, again.newer, again.read) == (True, 0, len(OBJECTS))


def test_a_copy_that_a_night_did_not_bring_is_found_without_reading(world: World) -> None:
    world.put("plain", OBJECTS["plain"][::-1], age=timedelta(hours=1))
    world.take()
    late = world.check()
    assert (late.ok, late.newer) == (True, 1), "the other cloud's own night is to come"
    world.point = replace(world.point, taken_at=world.point.taken_at + timedelta(days=1))
    found = world.check()
    assert (codes(found), found.read) == ({("damaged", "plain")}, 0)
    assert world.sync().reasons["copy etag"] == 1


def test_what_an_event_brings_bears_a_note_too(world: World) -> None:
    """Brought at once, told twice, and written over by a stranger before it is told once more."""
    world.put("plain", OBJECTS["plain"][::-1], age=timedelta(0))
    assert [world.bring("plain") for _ in range(2)] == ["copied", "already"]
    assert world.sync().reasons == {"leave same-etag": len(OBJECTS)}
    Stranger(world.cloud).write_over(name_of_key("plain"), keeping=True)
    assert world.bring("plain") == "copied"
    assert world.sync().reasons == {"leave same-etag": len(OBJECTS)}


class Counting:
    """A cloud's service that counts what it is asked."""

    def __init__(self, service: HttpService) -> None:
        self.service, self.name, self.requests = service, service.name, 0

    def call(self, request: Request) -> Answer:
        self.requests += 1
        return self.service.call(request)


def test_notes_cost_no_request(world: World) -> None:
    notes = notes_of(world.store)
    assert notes is not None
    asked = Counting(world.cloud._service)
    world.cloud._service = asked  # type: ignore[assignment]
    plain = list(world.store.list())
    listed, asked.requests = asked.requests, 0
    assert [replace(row, note=None) for row in notes.list_noted()] == plain
    assert asked.requests == listed > 0
    world.put("new", b"new")
    world.source.requests = 0
    assert world.sync().copied == 1
    assert world.source.requests == 2, "a page and what was copied: nobody looks at it once more"


def test_notes_tell_nothing_of_what_is_sealed(world: World) -> None:
    told = [(row.key, row.note) for row in notes_of(world.cloud).list_noted("objects")]
    assert len(told) == len(OBJECTS)
    digests = [sha256(data) for data in OBJECTS.values()]
    digests += [hashlib.md5(data).hexdigest() for data in OBJECTS.values()]
    clear = [digest for digest in digests if any(digest in note for _, note in told)]
    assert bool(clear) == (world.store is world.cloud)


def test_a_points_object_with_other_bytes_than_it_was_noted_with_is_found_unread(
    world: World,
) -> None:
    """Nobody has read it yet, so that nothing but its note tells what it was."""
    store, small = world.store, b"small" * 1000
    point_id = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-files"
    objects = [store.put(f"points/{point_id}/small", small)]
    with store.open_writer(f"points/{point_id}/large") as writer:
        writer.write(OBJECTS[LARGE])
        objects.append(writer.commit())
    wal = store.put("wal/00000001/000000010000000000000001.zst", small)
    point = replace(
        world.point, id=point_id, kind="archive", objects=tuple(objects), taken_at=datetime.now(UTC)
    )
    catalogue = StoredCatalogue(store, "assets", index=None)
    catalogue.add(point)

    def check() -> CheckResult:
        return verify_location(
            store, catalogue, location="elsewhere", component="assets", policy=UNREAD,
            ledgers=InMemoryObjectStore(), clock=SystemClock(), until=None,
        )  # fmt: skip

    whole = check()
    assert (whole.ok, whole.read) == (True, 0), whole
    for it in (*objects, wal):
        Stranger(world.cloud).write_over(it.key, keeping=True)
    found = check()
    assert {item.key for item in found.findings} == {it.key for it in (*objects, wal)}
