"""Uploads in parts that begin before a copy of their key and end after it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pytest

from chalicelib.backup.bucket.in_parts import Compared, load_compared, save_compared
from chalicelib.backup.bucket.sync_decision import SyncPolicy
from chalicelib.ports.buckets import ObjectRow
from tests.fakes import InMemoryObjectStore
from tests.sync_world import START, World, contents, event, replicate


def test_an_upload_that_began_before_the_last_copy_is_brought_by_its_event() -> None:
    """S3 dates what was uploaded in parts by the beginning of the upload."""
    world, policy = World(), SyncPolicy(opaque_etags=True)
    world.put(world.source, k="old")
    began_at = world.clock.now()
    world.clock.sleep(60)
    world.put(world.replica, k="old")
    world.clock.sleep(60)
    world.put(world.source, k="new")
    stored = world.source.versions["k"][0]
    stored.facts = replace(stored.facts, modified_at=began_at)
    told = event("Object Created", "k", world.clock.now())
    world.clock.sleep(5)
    assert replicate(world, told, policy).action == "copied"
    assert contents(world.replica) == {"k": b"new"}
    world.clock.sleep(5)
    assert replicate(world, told, policy).action == "already"


class InParts:
    """A key whose upload began before its copy was made, and may end after it."""

    def __init__(self, *, versioned: bool = True) -> None:
        self.world = World(versioned=versioned)
        self.world.put(self.world.source, k="old")
        self.store = InMemoryObjectStore()
        self.pass_time()

    def pass_time(self) -> None:
        self.world.clock.sleep(60)

    def begin(self) -> datetime:
        at = self.world.clock.now()
        self.pass_time()
        return at

    def end(self, begun_at: datetime, content: bytes = b"new") -> None:
        self.pass_time()
        self.world.source.complete("k", content, begun_at)
        self.pass_time()

    def sync(self) -> dict[str, int]:
        """What was decided, by reason; what was compared is kept for the next."""
        compared = load_compared(self.store, "primary")
        policy = SyncPolicy(opaque_etags=True)
        done = self.world.sync(policy=policy, compared=compared)
        save_compared(self.store, "primary", compared.to_bytes())
        self.pass_time()
        return done.reasons

    @property
    def requests_of_a_sync(self) -> int:
        """To the source, besides the listing."""
        before = self.world.source.requests
        assert self.sync() == {"leave copied-later": 1}
        return self.world.source.requests - before - 1

    @property
    def replica(self) -> bytes:
        return contents(self.world.replica)["k"]


def test_an_upload_under_way_at_the_last_sync_is_brought_by_the_next_without_an_event() -> None:
    it = InParts()
    begun_at = it.begin()
    assert it.sync() == {"copy new": 1}
    it.end(begun_at)
    assert it.sync() == {"copy may-be-older": 1}
    assert it.replica == b"new"
    assert it.requests_of_a_sync == 0


def test_an_upload_that_began_and_ended_around_an_event_s_copy_is_brought_by_the_next_sync() -> (
    None
):
    it = InParts()
    begun_at = it.begin()
    it.world.put(it.world.replica, k="old")
    it.end(begun_at)
    assert it.sync() == {"copy may-be-older": 1}
    assert it.replica == b"new"


def test_an_upload_that_replaces_one_of_parts_is_brought_too() -> None:
    it = InParts()
    it.end(it.begin(), b"one")
    assert it.sync() == {"copy new": 1}
    second, third = it.begin(), it.begin()
    it.end(third, b"3rd")
    it.world.put(it.world.replica, k="3rd")
    it.end(second, b"2nd")
    assert it.sync() == {"copy may-be-older": 1}
    assert it.replica == b"2nd"


@pytest.mark.parametrize("versioned", [True, False])
def test_a_copy_of_a_key_with_one_version_is_of_that(versioned: bool) -> None:
    """Where there are no versions, nobody knows: it is copied again, once."""
    it = InParts(versioned=versioned)
    del it.world.source.versions["k"]
    it.end(it.begin())
    it.world.put(it.world.replica, k="new")
    it.pass_time()
    assert it.sync() == ({"leave copied-later": 1} if versioned else {"copy may-be-older": 1})
    assert it.requests_of_a_sync == 0


def test_what_a_sync_has_compared_costs_no_request() -> None:
    it = InParts()
    it.end(it.begin())
    assert it.sync() == {"copy new": 1}
    assert [it.requests_of_a_sync, it.requests_of_a_sync] == [0, 0]


def test_an_ordinary_object_costs_no_request() -> None:
    it = InParts()
    assert it.sync() == {"copy new": 1}
    copy = it.world.replica.versions["k"][0]
    copy.facts = replace(copy.facts, etag="f" * 32)
    assert it.requests_of_a_sync == 0


def test_a_note_that_is_not_understood_tells_nothing() -> None:
    row = ObjectRow("k", 3, "e-2", START)
    compared = Compared()
    compared.add(row)
    note = compared.to_bytes()
    assert Compared.from_bytes(note).knows(row)
    assert not Compared.from_bytes(note).knows(row._replace(etag="e-3"))
    for other in (b"", note[:-1], b"another 1\n" + note, note[:-8]):
        assert not Compared.from_bytes(other).knows(row)
