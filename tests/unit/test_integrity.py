"""Copies in one location: whatever is wrong with them is found, named, and never green."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.adapters.catalogue import StoredCatalogue
from chalicelib.errors import DigestMismatch, Refused, Throttled, Unavailable
from chalicelib.plan.manifest import LARGEST_BYTES, write_manifest
from chalicelib.plan.records import canonical_json
from chalicelib.ports import StoredFacts
from chalicelib.verify.copies.content import QUICK_BYTES, SURE_BYTES_A_SECOND, read_at_once
from chalicelib.verify.copies.expected import Expected
from chalicelib.verify.copies.integrity import CheckResult
from chalicelib.verify.copies.location import verify_location
from chalicelib.verify.copies.rotation import CheckPolicy
from tests.fakes import InMemoryObjectStore
from tests.fakes_state import InMemoryState
from tests.integrity_stores import SEGMENT, Keeper, Shelf, SteppedClock, wal_content

ALL = CheckPolicy(read_within=timedelta(days=30))
NONE = dataclasses.replace(ALL, read_bytes=0)
DAY = timedelta(days=1)
NOW = datetime(2026, 11, 22, tzinfo=UTC)


class Guard:
    """Checks one location again and again."""

    def __init__(self, keeper: Keeper) -> None:
        self.keeper, self.ledgers = keeper, InMemoryObjectStore()

    def check(self, policy: CheckPolicy = ALL, seconds: float | None = None) -> CheckResult:
        now = self.keeper.clock.now()
        return verify_location(
            self.keeper.store, self.keeper.catalogue, location="primary", component="db",
            policy=policy, ledgers=self.ledgers, clock=self.keeper.clock,
            until=None if seconds is None else now + timedelta(seconds=seconds),
        )  # fmt: skip


def codes(result: CheckResult) -> set[tuple[str, str]]:
    return {(item.code, item.key) for item in result.findings}


@pytest.fixture
def guard() -> Guard:
    keeper = Keeper(index=InMemoryState())
    keeper.add(b"one" * 100, b"two" * 100)
    keeper.add_wal(1, 2, 3)
    keeper.add_backup(SEGMENT + 5, 2 * SEGMENT + 9)
    return Guard(keeper)


def test_whole_copies_are_green_and_every_byte_was_read(guard: Guard) -> None:
    result = guard.check()
    assert result.ok
    assert (result.points, result.objects, result.looked, result.read) == (2, 6, 6, 6)
    assert result.read_bytes == result.total_bytes > 600
    assert result.oldest_unread_at == guard.keeper.clock.now()
    assert [item.read_at for item in guard.keeper.catalogue.holdings().standings] == [
        guard.keeper.clock.now()
    ] * 2


def test_without_a_byte_budget_nothing_is_read_and_the_age_grows(guard: Guard) -> None:
    guard.keeper.clock.at += 31 * DAY
    result = guard.check(NONE)
    assert guard.keeper.store.read_keys == []
    assert result.oldest_unread_seconds == 31 * 86400
    assert {code for code, _ in codes(result)} == {"unread-too-long"}
    assert not result.budget_suffices


def test_nothing_at_all_is_not_green() -> None:
    result = Guard(Keeper()).check()
    assert not result.ok
    assert {code for code, _ in codes(result)} == {"nothing-to-check"}


def test_what_the_store_kept_a_checksum_of_is_judged_without_reading() -> None:
    keeper = Keeper(checksums=True)
    point = keeper.add(b"one" * 100, b"two" * 100)
    guard = Guard(keeper)
    first, second = (item.key for item in point.objects)
    keeper.store.put(first, b"six" * 100)
    keeper.store.put(second, b"one" * 100)
    result = guard.check(NONE)
    # Both are read all the same, to tell what they are.
    assert codes(result) == {("damaged", first), ("swapped", second)}


def test_damage_is_not_forgotten_when_it_is_not_read_again(guard: Guard) -> None:
    key = "points/20261101T000000Z-files/part-0"
    guard.keeper.store.rot(key, b"onE" * 100)
    assert codes(guard.check()) == {("damaged", key)}
    assert codes(guard.check(NONE)) == {("damaged", key)}
    guard.keeper.store.rot(key, b"one" * 100)
    assert guard.check().ok


def test_damage_to_wal_that_was_never_read_is_found_by_its_own_checksum(guard: Guard) -> None:
    [key] = guard.keeper.add_wal(4)
    whole = wal_content(4)
    guard.keeper.store.rot(key, whole[:50] + bytes([whole[50] ^ 1]) + whole[51:])
    assert codes(guard.check()) == {("damaged", key)}


def test_wal_that_becomes_another_is_found_by_its_digest(guard: Guard) -> None:
    assert guard.check().ok
    [key] = guard.keeper.add_wal(3)
    guard.keeper.store.rot(key, wal_content(9))
    size = len(wal_content(9)) - len(wal_content(3))
    [(code, found)] = codes(guard.check())
    assert (code in ("damaged", "truncated"), found) == (True, key), size


def test_what_was_written_over_is_named_as_that(guard: Guard) -> None:
    assert guard.check().ok
    guard.keeper.clock.at += DAY / 4
    key = "points/20261101T000000Z-files/part-1"
    guard.keeper.store.put(key, b"TWO" * 100)
    assert codes(guard.check(dataclasses.replace(ALL, read_bytes=1))) == {("overwritten", key)}


def test_what_was_written_over_and_not_read_again_is_never_green(guard: Guard) -> None:
    assert guard.check().ok
    guard.keeper.clock.at += DAY / 4
    keys = [f"points/20261101T000000Z-files/part-{number}" for number in (0, 1)]
    guard.keeper.store.put(keys[0], b"one" * 100)
    guard.keeper.store.put(keys[1], b"TWO" * 100)
    result = guard.check(dataclasses.replace(ALL, read_bytes=1))
    assert not result.ok
    assert [(item.code, item.key) for item in result.unreached] == [("changed", keys[1])]
    assert codes(guard.check()) == {("overwritten", keys[1])}


def test_extra_objects_are_named_once_nobody_can_still_be_writing_them(guard: Guard) -> None:
    for key in ("points/20261101T000000Z-files/odd", "points/half/part-0", "wal/odd", "points/odd"):
        guard.keeper.store.put(key, b"?")
    assert guard.check().ok
    guard.keeper.clock.at += 2 * DAY
    assert codes(guard.check()) == {
        ("extra", "points/20261101T000000Z-files/odd"), ("extra", "points/half/part-0"),
        ("extra", "points/odd"), ("extra", "wal/odd"),
    }  # fmt: skip


def test_the_index_and_the_manifests_watch_each_other(guard: Guard) -> None:
    keeper = guard.keeper
    forged = Keeper(keeper.clock)
    keeper.clock.at += DAY
    planted = forged.add(b"poison")
    for key, data in forged.store.objects.items():
        keeper.store.put(key, data)
    keeper.clock.at += 2 * DAY
    manifest = "points/20261101T000000Z-files/manifest.json"
    keeper.store.delete(manifest)
    assert codes(guard.check()) == {
        ("manifest-missing", manifest), ("not-indexed", f"points/{planted.id}/manifest.json"),
    }  # fmt: skip


def test_a_manifest_written_anew_with_its_digest_is_found_by_the_index(guard: Guard) -> None:
    other = Keeper(guard.keeper.clock)
    point = other.add(b"poison")
    key = f"points/{point.id}/manifest.json"
    guard.keeper.store.put(key, other.store.objects[key])
    assert codes(guard.check()) == {("tampered", key)}


def test_a_manifest_or_history_larger_than_any_is_named_and_not_read(guard: Guard) -> None:
    """Whoever writes to a location could end each check of it, by filling its memory."""
    store = guard.keeper.store
    keys = ("points/20261101T000000Z-files/manifest.json", "wal/00000002.history")
    for key in keys:
        store.put(key, bytes(LARGEST_BYTES + 1))
    assert codes(guard.check()) == {("tampered", keys[0]), ("damaged", keys[1])}
    assert store.largest_bytes <= LARGEST_BYTES


def test_what_lies_beside_the_copies_and_is_nobodys_is_extra(guard: Guard) -> None:
    store = guard.keeper.store
    for key in ("READ_ME.txt", "point/x/y"):
        store.put(key, b"pay")
    own = ("handover/r/base.tar.zst", "shards/r/plan.json", "copying/x", "sealed-keys/gcs/x.json",
           "copied.json", "objects/a", "objects-long/b")  # fmt: skip
    for key in own:
        store.put(key, b"own")
    assert guard.check().ok, "what is so young may be on its way to be something"
    guard.keeper.clock.at += 2 * DAY
    assert codes(guard.check()) == {("extra", "READ_ME.txt"), ("extra", "point/x/y")}
    beside_a_replica = dataclasses.replace(ALL, whole=False)
    assert guard.check(beside_a_replica).ok


def test_a_wiped_index_vouches_for_nothing(guard: Guard) -> None:
    """Else whoever empties it may rewrite a manifest with its objects, and every check is green."""
    state = InMemoryState()
    keeper = guard.keeper
    keeper.catalogue = StoredCatalogue(keeper.store, "db", index=state)
    keeper.clock.at += 2 * DAY
    found = codes(guard.check())
    assert {code for code, _ in found} == {"not-indexed"}
    assert len(found) == 2
    keeper.catalogue.index_from(StoredCatalogue(keeper.store, "db").holdings())
    assert guard.check().ok


def test_a_quarantined_point_is_told_and_not_looked_at(guard: Guard) -> None:
    point_id = "20261101T000000Z-files"
    guard.keeper.store.rot(f"points/{point_id}/part-0", b"gone bad")
    guard.keeper.catalogue.quarantine(
        point_id, code="damaged", reason="seen", at=guard.keeper.clock.now()
    )
    result = guard.check()
    assert (result.ok, result.points, result.quarantined) == (True, 1, (point_id,))


def test_wal_that_a_point_needs_is_missed(guard: Guard) -> None:
    [_, second, third] = guard.keeper.add_wal(1, 2, 3)
    guard.keeper.store.delete(second)
    assert codes(guard.check()) == {("wal-gap", second)}
    guard.keeper.store.delete(third)
    guard.keeper.add_wal(2, 4)
    assert guard.check().ok
    window = dataclasses.replace(ALL, wal_within=7 * DAY)
    assert codes(guard.check(window)) == {("wal-gap", third)}


def test_a_window_is_unbroken_from_a_backup_that_can_be_restored(guard: Guard) -> None:
    """An incremental before the window does not open it while what it builds on is quarantined."""
    lost = guard.keeper.add_wal(3)[0]
    guard.keeper.add_wal(1, 2, *range(4, 9))
    guard.keeper.clock.at += DAY
    full = guard.keeper.add_backup(5 * SEGMENT, 6 * SEGMENT)
    guard.keeper.clock.at += DAY
    guard.keeper.add_backup(7 * SEGMENT, 8 * SEGMENT, parent=full.id)
    guard.keeper.clock.at += 20 * DAY
    window = dataclasses.replace(ALL, wal_within=7 * DAY, read_within=90 * DAY)
    guard.keeper.store.delete(lost)
    assert guard.check(window).ok, "nothing before the window's backup is missed"
    guard.keeper.catalogue.quarantine(full.id, code="x", reason="x", at=guard.keeper.clock.now())
    assert codes(guard.check(window)) == {("wal-gap", lost)}


def test_an_incremental_without_its_parent_is_named(guard: Guard) -> None:
    guard.keeper.clock.at += DAY / 24
    point = guard.keeper.add_backup(2 * SEGMENT, 3 * SEGMENT, parent="20250101T000000Z-full")
    assert codes(guard.check()) == {("parent-missing", f"points/{point.id}/manifest.json")}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Throttled("503"), None),
        (Unavailable("no answer"), None),
        (Refused("denied", code="access-denied"), "unreadable"),
        (DigestMismatch("replaced", code="object-changed"), "overwritten"),
        (DigestMismatch("frame 3 is not authentic"), "damaged"),
    ],
)
def test_an_object_that_cannot_be_read_is_never_green(
    guard: Guard, error: Exception, code: str | None
) -> None:
    key = "points/20261101T000000Z-files/part-0"
    guard.keeper.store.refuse[key] = error  # type: ignore[assignment]
    result = guard.check()
    assert not result.ok
    assert codes(result) == ({(code, key)} if code else set())
    assert [item.key for item in result.unreached] == ([] if code else [key])
    guard.keeper.store.refuse.clear()
    assert guard.check().ok
    assert guard.keeper.store.read_keys[-6:].count(key) == 1


def test_a_check_ends_in_time_when_the_store_hangs(guard: Guard) -> None:
    released = threading.Event()
    key = "points/20261101T000000Z-files/part-0"

    def hang(asked: str) -> Iterator[bytes]:
        if asked == key:
            released.wait(20)
        yield guard.keeper.store.objects[asked]

    guard.keeper.store.read = hang  # type: ignore[method-assign,assignment]
    result = guard.check(seconds=0.3)
    released.set()
    assert not result.ok
    assert [(item.key, item.code) for item in result.unreached] == [(key, "deadline")]
    assert guard.check().ok


class SlowShelf(Shelf):
    """Each MiB takes a quarter of a minute."""

    def __init__(self, clock: SteppedClock) -> None:
        super().__init__(clock)
        self.begun_at: list[int] = []

    def read_on(self, key: str, start: int, *, version: str) -> Iterator[bytes]:
        assert self.facts(key).version == version
        self.begun_at.append(start)
        for at in range(start, len(self.objects[key]), 1 << 20):
            self.clock.at += timedelta(seconds=15)
            yield self.objects[key][at : at + (1 << 20)]


@pytest.mark.parametrize("rotten_at", [None, 1 << 20, (9 << 20) + 7])
def test_an_object_that_no_single_check_can_read_is_read_by_several(rotten_at: int | None) -> None:
    keeper = Keeper()
    keeper.store = slow = SlowShelf(keeper.clock)
    keeper.catalogue = StoredCatalogue(slow, "db")
    content = bytearray(os.urandom(1 << 16) * 160)  # 10 MiB
    [long] = (item.key for item in keeper.add(bytes(content)).objects)
    if rotten_at is not None:
        content[rotten_at] ^= 1
        slow.rot(long, bytes(content))
    guard, policy = Guard(keeper), dataclasses.replace(ALL, long_bytes=1 << 20)
    first = keeper.clock.at
    results = []
    while not results or results[-1].part_read:
        results.append(guard.check(policy, seconds=60))
        keeper.clock.at += timedelta(hours=6)
    assert len(results) == 4
    assert slow.begun_at == [0, 3 << 20, 6 << 20, 9 << 20]
    assert [it.part_read for it in results] == [(long,)] * 3 + [()]
    assert all(it.ok for it in results[:-1]), "it was looked at, and nothing is known against it"
    expected = set() if rotten_at is None else {("damaged", long)}
    assert codes(results[-1]) == expected
    if rotten_at is None:
        assert results[-1].oldest_unread_at == first, "its first byte was read then"
        assert guard.check(policy, seconds=60).part_read == (long,), "and it is begun anew"


def test_what_was_written_over_between_two_checks_is_begun_anew() -> None:
    keeper = Keeper()
    keeper.store = slow = SlowShelf(keeper.clock)
    keeper.catalogue = StoredCatalogue(slow, "db")
    content = os.urandom(1 << 16) * 160
    [long] = (item.key for item in keeper.add(content).objects)
    guard, policy = Guard(keeper), dataclasses.replace(ALL, long_bytes=1 << 20)
    assert guard.check(policy, seconds=60).part_read == (long,)
    slow.put(long, content[::-1])
    guard.check(policy, seconds=60)
    assert slow.begun_at == [0, 0]
    for _ in range(3):
        last = guard.check(policy, seconds=60)
    assert ("damaged", long) in codes(last)


def test_what_one_check_does_not_reach_the_next_ones_do() -> None:
    keeper = Keeper()
    keeper.add(*(b"%d" % number for number in range(200)))
    guard, looked = Guard(keeper), set()
    facts = keeper.store.facts

    def slow(key: str) -> StoredFacts:
        keeper.clock.at += timedelta(seconds=1)
        looked.add(key)
        return facts(key)

    keeper.store.facts = slow  # type: ignore[method-assign]
    first = guard.check(NONE, seconds=60)
    assert not first.ok
    assert 0 < first.looked < 100
    for _ in range(8):
        assert not guard.check(NONE, seconds=60).ok
    assert len(looked) == 200
    assert guard.check(NONE, seconds=1000).ok


class FeedingShelf(Shelf):
    """Each request takes a second."""

    def __init__(self, clock: SteppedClock) -> None:
        super().__init__(clock)
        self.asked: list[str] = []

    def facts(self, key: str) -> StoredFacts:
        self.clock.at += timedelta(seconds=1)
        self.asked.append(key)
        return super().facts(key)

    def feed(self, key: str, take: Callable[[memoryview], None]) -> StoredFacts:
        for piece in self.read(key):
            take(memoryview(piece))
        return self.facts(key)


def test_what_takes_its_time_does_not_keep_a_check_from_looking_at_the_others() -> None:
    keeper = Keeper()
    keeper.store = slow = FeedingShelf(keeper.clock)
    keeper.catalogue = StoredCatalogue(slow, "db")
    contents = [b"%d" % number for number in range(200)]
    contents[100:110] = [bytes(QUICK_BYTES + 1)] * 10
    keys = [item.key for item in keeper.add(*contents).objects]
    guard = Guard(keeper)
    for _ in range(9):
        assert not guard.check(seconds=60).ok
    assert {*keys} - {*slow.asked} <= {*keys[100:110]}
    whole = guard.check(seconds=1000)
    assert (whole.ok, whole.read) == (True, 200)


def test_only_what_can_surely_be_read_in_time_is_not_looked_at_before() -> None:
    def chosen(store: Shelf, seconds: float | None) -> set[str]:
        late = SURE_BYTES_A_SECOND
        sizes = {"a": late, "b": 1, "c": late, "d": late, "e": 10 * late}
        items = [Expected(key, "p", size, "aa", NOW, "new") for key, size in sizes.items()]
        wal = Expected("wal", "", 1, "", NOW, "new")
        return {*read_at_once(store, [*items, wal], long_bytes=10 * late, seconds=seconds)}

    feeding = FeedingShelf(SteppedClock())
    assert chosen(feeding, None) == {"a", "b", "c", "d"}
    assert chosen(feeding, 2) == {"a", "b", "c"}
    assert chosen(feeding, 0) == {"b"}
    assert chosen(Shelf(SteppedClock()), None) == set()


def test_a_point_pruned_during_the_check_is_no_loss(guard: Guard) -> None:
    store, catalogue = guard.keeper.store, guard.keeper.catalogue
    facts, pruned = store.facts, "20261101T000000Z-files"

    def prune_then(key: str) -> StoredFacts:
        catalogue.forget(pruned)
        for number in (0, 1):
            store.delete(f"points/{pruned}/part-{number}")
        return facts(key)

    store.facts = prune_then  # type: ignore[method-assign]
    result = guard.check()
    assert (result.ok, codes(result)) == (True, set())
    assert result.objects == 4


def test_a_partial_superseded_during_the_check_is_no_loss(guard: Guard) -> None:
    store = guard.keeper.store
    partial = f"wal/00000001/00000001000000000000000{4}.{4 * SEGMENT + 9:016X}.partial.zst"
    store.put(partial, wal_content(4))
    facts = store.facts

    def supersede_then(key: str) -> StoredFacts:
        guard.keeper.add_wal(4)
        store.delete(partial)
        return facts(key)

    store.facts = supersede_then  # type: ignore[method-assign]
    assert guard.check().ok


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format":1,"seen":{"k":[1]}}', b"\xff"])
def test_a_lost_ledger_costs_only_that_everything_is_read_again(
    guard: Guard, content: bytes
) -> None:
    assert guard.check().ok
    guard.ledgers.put("checks/db/primary.json", content)
    result = guard.check()
    assert (result.ok, result.read) == (True, 6)


def test_a_result_tells_machines_what_it_tells_people(guard: Guard) -> None:
    result = guard.check()
    told = result.to_json()
    assert canonical_json(told)
    assert told["ok"] is True
    assert told["oldest_unread_seconds"] == 0


# What can happen to any object.
DAMAGES = ("flip", "remove", "truncate", "swap")


def damage(keeper: Keeper, key: str, kind: str, at: int, other: str) -> bool:
    """False when nothing changed by it."""
    data = keeper.store.objects[key]
    if kind == "remove":
        del keeper.store.objects[key]
    elif kind == "truncate":
        keeper.store.rot(key, data[: at % len(data)])
    elif kind == "swap":
        keeper.store.rot(key, keeper.store.objects[other])
        keeper.store.rot(other, data)
    else:
        place, bit = divmod(at % (8 * len(data)), 8)
        keeper.store.rot(key, data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :])
    return keeper.store.objects.get(key) != data


@settings(max_examples=60, deadline=None)
@given(
    contents=st.lists(st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=3),
                      min_size=1, max_size=3),
    kind=st.sampled_from(DAMAGES),
    pick=st.integers(0, 1000),
    with_pick=st.integers(0, 1000),
    at=st.integers(0, 1 << 30),
)  # fmt: skip
def test_any_damage_to_any_object_is_found_and_named(
    contents: list[list[bytes]], kind: str, pick: int, with_pick: int, at: int
) -> None:
    keeper = Keeper(SteppedClock(), index=InMemoryState())
    for parts in contents:
        keeper.add(*parts)
        keeper.clock.at += DAY
    keeper.add_wal(1, 2, 3)
    keeper.add_backup(SEGMENT, 4 * SEGMENT)
    guard = Guard(keeper)
    assert guard.check().ok
    keeper.clock.at += 2 * DAY
    keys = sorted(key for key in keeper.store.objects if not key.endswith("/read.json"))
    key, other = keys[pick % len(keys)], keys[with_pick % len(keys)]
    manifests = {item for item in keys if item.endswith("/manifest.json")}
    changed = damage(keeper, key, kind, at, other)
    result = guard.check()
    named = {item.key for item in result.findings}
    # Of objects whose manifest is gone or another, the manifest is named.
    vouched = {item: {item, f"{item.rpartition('/')[0]}/manifest.json"} for item in (key, other)}
    assert result.ok is not changed
    assert bool(vouched[key] & named) is changed
    assert kind != "swap" or not changed or vouched[other] & named
    if kind == "swap" and changed and not {key, other} & manifests:
        found = {item.key: item for item in result.findings}
        assert {found[key].code, found[other].code} == {"swapped"}


@settings(max_examples=50, deadline=None)
@given(
    kind=st.sampled_from(("remove", "truncate", "overwrite", "add")),
    pick=st.integers(0, 1000),
    at=st.integers(0, 1 << 30),
)
def test_without_reading_every_difference_in_name_size_and_checksum_is_found(
    kind: str, pick: int, at: int
) -> None:
    keeper = Keeper(checksums=True, index=InMemoryState())
    keeper.add(b"one" * 9, b"two" * 9, b"three")
    keeper.add_wal(1, 2)
    keeper.add_backup(SEGMENT, 3 * SEGMENT)
    keeper.clock.at += 2 * DAY
    guard = Guard(keeper)
    keys = sorted(keeper.store.objects)
    key = keys[pick % len(keys)]
    if kind == "overwrite":
        key = key.replace("manifest.json", "base.tar.zst") if "full" in key else key
        data = keeper.store.objects[key]
        keeper.store.put(key, bytes([data[0] ^ 1]) + data[1:])
        if key.startswith("wal/"):
            return
    elif kind == "add":
        key = f"points/{at}/x"
        keeper.store.put(key, b"?")
        keeper.clock.at += 2 * DAY
    elif kind == "truncate" and key.startswith("wal/"):
        return
    else:
        damage(keeper, key, kind, at, key)
    result = guard.check(NONE)
    assert not result.ok
    assert key in {item.key for item in result.findings}
    assert keeper.store.read_keys in ([], [key])


def test_what_a_clock_that_was_ahead_read_does_not_count_as_read_until_then(guard: Guard) -> None:
    """One check in 2027 by mistake must not keep the promise of all of 2026."""
    clock, year = guard.keeper.clock, timedelta(days=365)
    clock.at += year
    assert guard.check().ok
    clock.at -= year - ALL.read_within - DAY
    result = guard.check(NONE)
    assert {code for code, _ in codes(result)} == {"unread-too-long"}
    assert result.oldest_unread_seconds == (ALL.read_within + DAY).total_seconds()

    assert guard.check().ok
    clock.at += DAY
    assert guard.check(NONE).oldest_unread_seconds == 86400
    read = [item.read_at for item in guard.keeper.catalogue.holdings().standings]
    assert read == [clock.now() - DAY] * 2


def test_a_manifest_of_another_component_is_tampered_also_where_no_index_tells() -> None:
    keeper = Keeper()
    point = keeper.add(b"one" * 100)
    other = dataclasses.replace(point, component="billing")
    keeper.store.put(f"points/{point.id}/manifest.json", write_manifest(other))
    result = Guard(keeper).check()
    assert ("tampered", f"points/{point.id}/manifest.json") in codes(result)
