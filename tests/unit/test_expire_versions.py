"""What goes of a replica's versions, and what never does."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.backup.bucket.expire_versions import (
    FEW_VERSIONS,
    Expired,
    ExpiryDecision,
    Tally,
    apply_expiry,
    check_fresh,
    cutoff_of,
    decide_expiry,
)
from chalicelib.backup.bucket.key_spool import KeySpool
from chalicelib.backup.bucket.named_versions import read_named
from chalicelib.backup.bucket.take_inventory import bucket_entries, take_inventory
from chalicelib.errors import CheckFailed, Damaged, NotReady, PruneTooLarge, Tampered
from chalicelib.plan.records import PointStanding, RecoveryPoint
from tests.fakes import InMemoryObjectStore
from tests.fakes_versions import VersionedBucket

COMPONENT, WINDOW, DAY = "uploads", timedelta(days=30), timedelta(days=1)


class World:
    """A replica and a backup bucket that share a clock. `standings`: points that are kept."""

    def __init__(self) -> None:
        self.replica = VersionedBucket("replica")
        self.backups = VersionedBucket("backups", self.replica.world)
        self.standings: dict[str, PointStanding] = {}

    @property
    def now(self) -> datetime:
        return self.replica.now

    def pass_time(self, span: timedelta) -> None:
        self.replica.now += span
        self.backups.now = self.replica.now

    def write(self, key: str, data: str = "1") -> None:
        self.replica.write(key, data.encode())
        self.pass_time(timedelta(seconds=1))

    def delete(self, key: str) -> None:
        self.replica.remove(key)
        self.pass_time(timedelta(seconds=1))

    def take(self) -> str:
        """An inventory by the code that takes them, entered as a point."""
        store, point_id = InMemoryObjectStore(), f"{self.now:%Y%m%dT%H%M%SZ}-objects"
        entries = bucket_entries(self.replica)
        taken = asyncio.run(take_inventory(entries, store, point_id, entries_per_object=2))
        for it in taken.objects:
            self.backups.write(f"{COMPONENT}/{it.key}", store.get(it.key))
        point = RecoveryPoint(
            id=point_id, component=COMPONENT, kind="objects", taken_at=self.now,
            finished_at=self.now, objects=taken.objects, source_bytes=taken.bytes,
            encryption="none",
        )  # fmt: skip
        self.standings[point_id] = PointStanding(point=point)
        self.pass_time(timedelta(seconds=1))
        return point_id

    def prune(self, point_id: str) -> None:
        """As a pruner does it, who leaves delete markers."""
        for it in self.standings.pop(point_id).point.objects:
            self.backups.remove(f"{COMPONENT}/{it.key}")

    def forget(self, point_id: str) -> None:
        """The backup bucket's own rule has removed what a prune left."""
        for key in [key for key in self.backups.versions if f"/{point_id}/" in key]:
            del self.backups.versions[key]

    def decide(self, spool: KeySpool) -> ExpiryDecision:
        async def run() -> ExpiryDecision:
            named = await read_named(self.backups, COMPONENT, self.standings.values())
            before = cutoff_of(WINDOW, now=self.now)
            return await decide_expiry(self.replica, named, spool, replaced_before=before)

        return asyncio.run(run())

    def expire(self, *, approved: bool = True) -> Expired:
        with KeySpool() as spool:
            decision = self.decide(spool)
            return asyncio.run(apply_expiry(decision, self.replica, spool, approved=approved))

    def left(self, key: str) -> list[bytes | None]:
        """Newest first; a marker is None."""
        return [stored.data for stored in self.replica.versions.get(key, ())]

    def state_at(self, moment: datetime) -> dict[str, bytes]:
        found = {}
        for key, versions in self.replica.versions.items():
            then = next((it for it in versions if it.facts.modified_at <= moment), None)
            if then is not None and then.data is not None:
                found[key] = then.data
        return found


def test_what_was_replaced_and_deleted_long_ago_goes_and_what_readers_get_stays() -> None:
    world = World()
    for data in ("first", "second", "third"):
        world.write("a", data)
    world.write("gone")
    world.delete("gone")
    world.pass_time(WINDOW)
    result = world.expire()
    assert world.left("a") == [b"third"]
    assert world.left("gone") == [None], "a marker above nothing is left for the next run"
    assert (result.removed, result.decision.current) == (Tally(3, 12), Tally(2, 5))
    world.expire()
    assert world.left("gone") == []


def test_a_version_stays_for_as_long_as_any_inventory_names_it() -> None:
    """Also one that a prune removed, until its bytes are gone and the prune cannot be undone."""
    world = World()
    world.write("a", "first")
    point = world.take()
    world.write("a", "unseen")
    world.write("a", "now")
    world.pass_time(timedelta(days=400))
    assert world.expire().decision.named == Tally(1, 5)
    assert world.left("a") == [b"now", b"first"]
    world.prune(point)
    world.expire()
    assert world.left("a") == [b"now", b"first"]
    world.forget(point)
    world.expire()
    assert world.left("a") == [b"now"]


@pytest.mark.parametrize("note", ["quarantined", "held"])
def test_a_point_that_is_held_or_quarantined_keeps_what_it_names(note: str) -> None:
    world = World()
    world.write("a", "then")
    point = world.take()
    world.write("a", "now")
    world.standings[point] = replace(world.standings[point], **{note: "a person says so"})
    world.pass_time(timedelta(days=4000))
    world.expire()
    assert world.left("a") == [b"now", b"then"]


def test_an_upload_in_parts_replaces_a_week_later_than_it_says_at_most() -> None:
    world = World()
    world.write("a", "then")
    world.replica.complete("a", b"now", world.now)
    world.pass_time(WINDOW + timedelta(days=6))
    assert world.expire().removed == Tally()
    world.pass_time(DAY)
    assert world.expire().removed == Tally(1, 4)


def test_a_window_below_two_days_is_taken_as_two() -> None:
    world = World()
    assert cutoff_of(timedelta(hours=1), now=world.now) == world.now - timedelta(days=2)


@pytest.mark.parametrize("error", [CheckFailed, Damaged, Tampered])
def test_nothing_goes_when_an_inventory_is_not_what_it_was(error: type[Exception]) -> None:
    world = World()
    world.write("a", "first")
    point = world.take()
    world.write("a", "now")
    world.pass_time(timedelta(days=400))
    [item] = world.standings[point].point.objects
    if error is CheckFailed:
        world.backups.remove(f"{COMPONENT}/{item.key}")
    elif error is Damaged:
        world.backups.write(f"{COMPONENT}/{item.key}", b"no inventory")
    else:
        other = World()
        other.take()
        [(_, [stored])] = other.backups.versions.items()
        assert stored.data
        world.backups.write(f"{COMPONENT}/{item.key}", stored.data)
    with pytest.raises(error):
        world.expire()
    assert world.left("a") == [b"now", b"first"]


def test_half_an_inventory_is_none() -> None:
    world = World()
    world.write("a")
    point = world.take()
    [item] = world.standings.pop(point).point.objects
    [stored] = world.backups.versions[f"{COMPONENT}/{item.key}"]
    assert stored.data
    world.backups.write(f"{COMPONENT}/{item.key}", stored.data[:-4])
    with pytest.raises(Damaged):
        world.expire()


def test_without_an_inventory_of_the_last_nights_nothing_goes() -> None:
    world = World()
    with pytest.raises(NotReady, match="newest is none"):
        check_fresh([], now=world.now)
    point = world.take()
    check_fresh([world.standings[point]], now=world.now + DAY)
    with pytest.raises(NotReady, match="20261122T080000Z|2026-11-22"):
        check_fresh([world.standings[point]], now=world.now + 3 * DAY)
    infected = replace(world.standings[point], quarantined="infected")
    with pytest.raises(NotReady):
        check_fresh([infected], now=world.now)


def test_more_than_half_of_a_replica_needs_a_persons_word() -> None:
    world = World()
    for number in range(FEW_VERSIONS):
        world.write(f"k{number:03}", "old")
        world.write(f"k{number:03}", "newer")
        world.write(f"k{number:03}", "x")
    world.pass_time(WINDOW)
    with pytest.raises(PruneTooLarge, match="200 of 300 versions"):
        world.expire(approved=False)
    assert len(world.replica.version_ids()) == 3 * FEW_VERSIONS
    world.expire()
    assert len(world.replica.version_ids()) == FEW_VERSIONS


def test_what_s3_refuses_is_counted_and_named() -> None:
    world = World()
    for key in ("free", "locked"):
        world.write(key, "old")
        world.write(key, "new")
    world.pass_time(WINDOW)
    world.replica.failing = {"locked"}
    result = world.expire()
    assert (result.removed.versions, result.failed) == (1, 1)
    assert [(it.key, it.code) for it in result.failures] == [("locked", "AccessDenied")]


def test_a_run_stops_where_it_is_told_to() -> None:
    world = World()
    world.write("a", "old")
    world.write("a", "new")
    world.pass_time(WINDOW)

    def incident() -> None:
        raise NotReady("an incident")

    with KeySpool() as spool:
        decision = world.decide(spool)
        with pytest.raises(NotReady):
            asyncio.run(apply_expiry(decision, world.replica, spool, may_go_on=incident))
    assert world.left("a") == [b"new", b"old"]


KEYS = ("a", "b c", "d\n")
EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.sampled_from(KEYS)),
        st.tuples(st.just("delete"), st.sampled_from(KEYS)),
        st.tuples(st.just("night"), st.integers(0, 20)),
        st.tuples(st.just("prune"), st.integers(0, 5)),
    ),
    max_size=30,
)


@settings(max_examples=150, deadline=None)
@given(EVENTS)
def test_whatever_happened_what_is_promised_stays_and_the_rest_goes(
    events: list[tuple[str, str | int]],
) -> None:
    world = World()
    inventories: list[str] = []
    named: set[tuple[str, str]] = set()
    for number, (what, which) in enumerate(events):
        if what == "write":
            world.write(str(which), f"{number}")
        elif what == "delete":
            world.delete(str(which))
        elif what == "night":
            named |= {
                (row.key, row.version_id)
                for row in world.replica.rows()
                if row.is_latest and not row.is_marker
            }
            inventories.append(world.take())
            world.pass_time(int(which) * DAY)
        elif inventories:
            world.prune(inventories.pop(int(which) % len(inventories)))
    before = world.replica.rows()
    moments = [world.now - WINDOW * share for share in (0, 0.25, 0.5, 0.999)]
    states = [world.state_at(moment) for moment in moments]
    cutoff = world.now - WINDOW
    world.expire()
    assert [world.state_at(moment) for moment in moments] == states
    ids = world.replica.version_ids()
    assert {one for one in named if one in {row[:2] for row in before}} <= ids
    for newer, row in zip(before, before[1:], strict=False):
        if row.key == newer.key and not row.is_marker and row[:2] not in named:
            assert (row[:2] in ids) == (newer.modified_at > cutoff)
