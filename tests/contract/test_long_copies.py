"""Objects that take longer than one process: put down, killed, gone on with, in real stores."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise

import pytest

from chalicelib.adapters.s3.store import S3ObjectStore
from chalicelib.backup.bucket.replicas import StoreReplica
from chalicelib.backup.bucket.sync import SyncResult, sync_buckets
from chalicelib.backup.bucket.sync_decision import SyncPolicy
from chalicelib.backup.long_copies import (
    LongPlace,
    Unfinished,
    copy_on,
    give_up_old,
    unfinished,
)
from chalicelib.errors import DigestMismatch, LeewardError, Unavailable
from chalicelib.plan.object_names import name_of_key
from chalicelib.plan.records import StoredObject
from chalicelib.ports import KeepsUploads, ObjectStore, ReadsOn
from tests.fakes import InMemoryObjectStore
from tests.fakes_buckets import InMemoryBuckets
from tests.fakes_keys import sealed
from tests.gcs_sessions import google_sessions
from tests.stores import Backend, running_backend

MIB = 1 << 20
DATA = os.urandom(1 << 16) * 250 + b"the rest"  # 16 MiB: several parts of each store
SHA256 = hashlib.sha256(DATA).hexdigest()
KEY = "points/p/base.tar.zst"
KINDS = ["moto", "seaweedfs", "gcs", "azure", "sealed in gcs", "sealed in azure"]


class TickingClock:
    """Each look at it takes a second."""

    def __init__(self) -> None:
        self.at = datetime(2026, 11, 22, 8, 45, tzinfo=UTC)

    def now(self) -> datetime:
        self.at += timedelta(seconds=1)
        return self.at

    def sleep(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


class Killed(BaseException):
    """As SIGKILL: nothing is tidied that a process tidies in its own code."""


class Dying:
    """Gives the bytes of a store, and dies after so many of them."""

    def __init__(self, inner: ReadsOn, alive_bytes: int) -> None:
        self._inner, self._left = inner, alive_bytes
        self.begun_at: list[int] = []

    def read_on(self, key: str, start: int, *, version: str) -> Iterator[bytes]:
        self.begun_at.append(start)
        for piece in self._inner.read_on(key, start, version=version):
            if self._left <= 0:
                raise Killed
            self._left -= len(piece)
            yield piece


@pytest.fixture(scope="module")
def backends() -> Iterator[Callable[[str], Backend]]:
    """Google's uploads are those of tests/gcs_sessions.py, its objects the emulator's."""
    with ExitStack() as running:

        def start(name: str) -> Backend:
            backend = running.enter_context(running_backend(name))
            if name != "gcs":
                return backend
            return replace(backend, port=running.enter_context(google_sessions(backend.port)))

        yield cache(start)


@pytest.fixture(params=KINDS)
def target(request: pytest.FixtureRequest, backends: Callable[[str], Backend]) -> ObjectStore:
    kind = request.param.removeprefix("sealed in ")
    backend = backends(kind)
    store = backend.store(backend.bucket())
    return store if kind == request.param else sealed(store)


@pytest.fixture
def source() -> InMemoryObjectStore:
    """It keeps the notes, too."""
    store = InMemoryObjectStore()
    store.put(KEY, DATA)
    return store


def place(notes: ObjectStore, clock: TickingClock, *, seconds: float = 1e6) -> LongPlace:
    until = clock.at + timedelta(seconds=seconds)
    return LongPlace(notes, "there", clock, until, long_bytes=1, save_every=timedelta(seconds=4))


def go_on(where: LongPlace, source: object, target: ObjectStore, version: str) -> StoredObject:
    assert isinstance(source, ReadsOn | Dying)
    assert isinstance(target, KeepsUploads)
    return copy_on(where, source, target, KEY, len(DATA), version=version, expected=SHA256)


def until_whole(
    notes: ObjectStore, source: InMemoryObjectStore, target: ObjectStore, clock: TickingClock
) -> tuple[StoredObject, list[int]]:
    """Runs of a few seconds each; where each began."""
    version, begun = source.facts(KEY).version, []
    for _ in range(40):
        here = Dying(source, 1 << 40)
        try:
            return go_on(place(notes, clock, seconds=12), here, target, version), begun
        except Unavailable as error:
            if error.instance_code != "put-down":
                raise
        finally:
            begun += here.begun_at
    raise AssertionError("it never ended")


def test_runs_that_end_early_or_are_killed_copy_one_object(
    source: InMemoryObjectStore, target: ObjectStore
) -> None:
    clock, version = TickingClock(), source.facts(KEY).version
    killed_at: list[int] = []
    for alive in (3 * MIB, 4 * MIB, 5 * MIB):
        dying = Dying(source, alive)
        with pytest.raises(Killed):
            go_on(place(source, clock), dying, target, version)
        killed_at += dying.begun_at
        assert not any(target.list("points/")), "nothing is visible before it is whole"
    stored, begun = until_whole(source, source, target, clock)
    assert (stored.size_bytes, stored.sha256) == (len(DATA), SHA256)
    assert target.get(KEY) == DATA
    assert killed_at[0] == 0
    assert all(one < after for one, after in pairwise((*killed_at, *begun)))
    assert not list(source.list("copying/")), "the note goes with the last byte"


@pytest.mark.parametrize("target", ["seaweedfs", "gcs", "sealed in azure"], indirect=True)
def test_an_object_that_changed_meanwhile_is_begun_anew(
    source: InMemoryObjectStore, target: ObjectStore
) -> None:
    clock = TickingClock()
    dying = Dying(source, 9 * MIB)
    with pytest.raises(Killed):
        go_on(place(source, clock), dying, target, source.facts(KEY).version)
    old = source.facts(KEY).version
    source.put(KEY, DATA[::-1])
    with pytest.raises(DigestMismatch) as refused:
        go_on(place(source, clock), source, target, old)
    assert refused.value.instance_code == "object-changed"
    with pytest.raises(DigestMismatch):  # by the manifest it must be the first
        go_on(place(source, clock), source, target, source.facts(KEY).version)
    assert not any(target.list("points/"))
    assert not unfinished(place(source, clock))
    source.put(KEY, DATA)
    stored, begun = until_whole(source, source, target, clock)
    assert stored.sha256 == SHA256
    assert begun[0] == 0
    assert target.get(KEY) == DATA


@pytest.mark.parametrize("target", ["seaweedfs", "sealed in gcs", "azure"], indirect=True)
def test_what_nobody_went_on_with_is_removed_and_told(
    source: InMemoryObjectStore, target: ObjectStore
) -> None:
    clock, version = TickingClock(), source.facts(KEY).version
    where = place(source, clock)
    with pytest.raises(Killed):
        go_on(where, Dying(source, 12 * MIB), target, version)
    assert give_up_old(where, target) == ()
    [begun] = unfinished(where)
    clock.sleep(8 * 86400)
    [told] = give_up_old(where, target)
    assert told == begun == replace(begun, key=KEY, size_bytes=len(DATA))
    assert told.sent_bytes > 0
    assert isinstance(told, Unfinished)
    assert not unfinished(where)
    stored, again = until_whole(source, source, target, clock)
    assert again[0] == 0
    assert stored.sha256 == SHA256


@pytest.mark.parametrize("kind", ["moto", "seaweedfs"])
def test_s3_keeps_no_part_of_what_was_given_up(
    kind: str, source: InMemoryObjectStore, backends: Callable[[str], Backend]
) -> None:
    backend, clock = backends(kind), TickingClock()
    target = backend.store(backend.bucket())
    assert isinstance(target, S3ObjectStore)
    dying = Dying(source, 12 * MIB)
    with pytest.raises(Killed):
        go_on(place(source, clock), dying, target, source.facts(KEY).version)
    assert list(target.calls.uploads(""))
    clock.sleep(8 * 86400)
    give_up_old(place(source, clock), target)
    assert not list(target.calls.uploads(""))


def test_an_upload_that_the_store_forgot_is_begun_anew(
    source: InMemoryObjectStore, backends: Callable[[str], Backend]
) -> None:
    backend, clock = backends("seaweedfs"), TickingClock()
    target, version = backend.store(backend.bucket()), source.facts(KEY).version
    with pytest.raises(Killed):
        go_on(place(source, clock), Dying(source, 12 * MIB), target, version)
    note = source.get(place(source, clock).note_key(KEY))
    give_up_old(place(source, clock), target, kept=timedelta())
    source.put(place(source, clock).note_key(KEY), note)
    with pytest.raises(LeewardError) as gone:
        go_on(place(source, clock), source, target, version)
    assert gone.value.instance_code == "upload-gone"
    assert gone.value.retryable
    stored, begun = until_whole(source, source, target, clock)
    assert begun[0] == 0
    assert stored.sha256 == SHA256


def test_a_sealed_object_of_many_runs_is_as_one_of_a_single_run(
    source: InMemoryObjectStore, backends: Callable[[str], Backend]
) -> None:
    """The same bytes, under another salt: nothing of its making can be told."""
    backend = backends("gcs")
    bucket = backend.bucket()
    target = sealed(backend.store(bucket))
    until_whole(source, source, target, TickingClock())
    with target.open_writer("once") as writer:
        writer.write(DATA)
        writer.commit()
    inner = backend.store(bucket)
    assert inner.facts(KEY).size_bytes == inner.facts("once").size_bytes
    for start in (0, MIB - 1, MIB, 7 * MIB + 5, len(DATA) - 1):
        read = target.read_on(KEY, start, version=target.facts(KEY).version)
        assert b"".join(read) == DATA[start:]


@pytest.mark.parametrize("target", ["sealed in gcs", "azure"], indirect=True)
def test_a_long_object_of_a_users_bucket_is_gone_on_with_too(
    source: InMemoryObjectStore, target: ObjectStore
) -> None:
    """Its shard is failed with nothing but "put-down" until it is whole."""
    clock = TickingClock()
    bucket = InMemoryBuckets(lambda: clock.at).create("uploads")
    results: list[SyncResult] = []

    async def sync() -> SyncResult:
        await bucket.put("odd//key", DATA)
        while not results or results[-1].put_down:
            replica = StoreReplica(target, "there", long=place(source, clock, seconds=12))
            done = await sync_buckets(bucket, replica, SyncPolicy(), clock=clock)
            results.append(done)
        return done

    assert asyncio.run(sync()).ok
    assert len(results) > 2
    assert results[0].failures[0].code == "put-down"
    assert target.get(name_of_key("odd//key")) == DATA
    again = StoreReplica(target, "there")
    done = asyncio.run(sync_buckets(bucket, again, SyncPolicy(), clock=clock))
    assert done.reasons == {"leave same-etag": 1}, "what was noted at its begin is told at its end"


def test_what_was_sent_since_the_checkpoint_may_be_written_again(target: ObjectStore) -> None:
    assert isinstance(target, KeepsUploads)
    with target.open_lasting("k") as writer:
        writer.write(DATA[: 3 * MIB])
        checkpoint = writer.checkpoint()
        writer.write(DATA[3 * MIB : 14 * MIB])
        writer.checkpoint()  # all of it has arrived
    with target.open_lasting("k", checkpoint) as writer:
        for start in range(3 * MIB, len(DATA), MIB):
            writer.write(DATA[start : start + MIB])
        stored = writer.commit()
    assert (stored.size_bytes, stored.sha256) == (len(DATA), SHA256)
    assert target.get("k") == DATA
