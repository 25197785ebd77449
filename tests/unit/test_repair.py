"""Copies in several locations: proven equal, mended from each other, quarantined if all are bad."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.errors import Throttled, Unavailable
from chalicelib.plan.manifest import LARGEST_BYTES
from chalicelib.plan.records import canonical_json, format_time
from chalicelib.verify.copies.integrity import CheckResult
from chalicelib.verify.copies.location import verify_location
from chalicelib.verify.copies.locations import (
    Comparison,
    LocationView,
    compare_locations,
    view_location,
)
from chalicelib.verify.copies.repair import decide_repair
from chalicelib.verify.copies.repair_run import RepairResult, apply_repair
from chalicelib.verify.copies.rotation import CheckPolicy
from tests.fakes import InMemoryObjectStore
from tests.fakes_state import InMemoryState
from tests.integrity_stores import SEGMENT, Keeper, wal_content

POLICY = CheckPolicy(read_within=timedelta(days=30))
NAMES = ("primary", "gcs", "azure")
INDEXES = {
    "relations/20261101T000000.000000Z.json": b'{"databases": {}}',
    "schemas/2026-11-01T00:00:00.000000Z.json": b'{"objects": {}}',
}


class Places:
    """The same component in three locations."""

    def __init__(self, *, index: bool = False) -> None:
        first = Keeper(index=InMemoryState() if index else None)
        self.clock = first.clock
        self.files = first.add(b"one" * 100, b"two" * 100)
        first.add_wal(1, 2, 3)
        for key, content in INDEXES.items():
            first.store.put(key, content)
        self.full = first.add_backup(SEGMENT + 5, 2 * SEGMENT + 9)
        self.clock.at += timedelta(hours=1)
        self.child = first.add_backup(2 * SEGMENT + 9, 3 * SEGMENT, parent=self.full.id)
        self.keepers = dict(zip(NAMES, (first, first.replicate(), first.replicate()), strict=True))
        self.ledgers = InMemoryObjectStore()
        self.clock.at += timedelta(days=2)

    def check(self, name: str) -> CheckResult:
        keeper = self.keepers[name]
        return verify_location(
            keeper.store, keeper.catalogue, location=name, component="db", policy=POLICY,
            ledgers=self.ledgers, clock=self.clock,
        )  # fmt: skip

    def check_all(self) -> dict[str, set[str]]:
        return {name: {item.code for item in self.check(name).findings} for name in self.keepers}

    def views(self) -> list[LocationView]:
        return [
            view_location(
                keeper.store, keeper.catalogue, location=name, component="db", policy=POLICY,
                ledgers=self.ledgers, clock=self.clock,
            )
            for name, keeper in self.keepers.items()
        ]  # fmt: skip

    def compare(self) -> Comparison:
        return compare_locations(self.views(), POLICY, now=self.clock.now())

    def repair(self, **how: tuple[str, ...]) -> RepairResult:
        return apply_repair(
            decide_repair(self.views(), **how),
            {name: keeper.store for name, keeper in self.keepers.items()},
            {name: keeper.catalogue for name, keeper in self.keepers.items()},
            clock=self.clock,
        )

    def contents(self, name: str) -> dict[str, bytes]:
        objects = self.keepers[name].store.objects
        return {key: data for key, data in objects.items() if not key.endswith("/read.json")}


@pytest.fixture
def places() -> Places:
    return Places()


SOUND: dict[str, set[str]] = {name: set() for name in NAMES}


def outcomes(result: RepairResult) -> list[tuple[str, str, str]]:
    return [(item.outcome, item.action.location, item.action.key) for item in result.repaired]


def test_copies_are_equal_only_when_all_were_read(places: Places) -> None:
    before = places.compare()
    assert not before.equal
    assert {item.code for point in before.points for item in point.differences} == {"unread"}
    assert places.check_all() == SOUND
    after = places.compare()
    assert after.equal
    assert [point.proven_in for point in after.points] == [NAMES] * 3
    places.clock.at += timedelta(days=31)
    assert not places.compare().equal


def test_a_point_that_is_still_on_its_way_is_not_the_same_everywhere(places: Places) -> None:
    primary = places.keepers["primary"]
    point = primary.add(b"new")
    places.check_all()
    found = places.compare()
    assert not found.equal
    [young] = [it for it in found.points if it.point_id == point.id]
    assert young.proven_in == ("primary",)
    assert [(it.code, it.location, it.found) for it in young.differences] == [
        ("absent", name, "not copied yet") for name in NAMES[1:]
    ]


def test_wal_that_nobody_read_is_not_proven_to_be_the_same(places: Places) -> None:
    places.check_all()
    for keeper in places.keepers.values():
        [segment] = keeper.add_wal(4)
    places.clock.at += timedelta(days=2)
    places.check("primary")
    found = places.compare()
    assert {(it.code, it.location) for it in found.wal if it.key == segment} == {
        ("unread", name) for name in NAMES[1:]
    }
    places.check_all()
    assert places.compare().equal


def test_nothing_is_equal_while_a_location_is_silent(places: Places) -> None:
    assert places.check_all() == SOUND
    [answering, *_] = places.views()
    found = compare_locations([answering], POLICY, now=places.clock.now(), silent=NAMES[1:])
    assert not found.equal
    assert found.silent == NAMES[1:]
    for point in found.points:
        assert not point.equal
        assert [(it.code, it.location) for it in point.differences] == [
            ("silent", name) for name in NAMES[1:]
        ]


def test_an_index_that_a_prune_removed_is_not_missed_and_one_that_is_needed_is(
    places: Places,
) -> None:
    store, oldest = places.keepers["gcs"].store, places.full.taken_at
    keys = [f"schemas/{format_time(oldest - timedelta(days=day))}.json" for day in (9, 5, 2)]
    for key in keys:
        store.put(key, b"{}")
    places.clock.at += timedelta(days=2)
    assert places.check("gcs").ok
    for key in keys[:2]:
        store.delete(key)
    assert places.check("gcs").ok
    store.delete(keys[2])
    assert {(it.code, it.key) for it in places.check("gcs").findings} >= {("missing", keys[2])}


def test_each_difference_between_locations_is_named(places: Places) -> None:
    gcs, azure = places.keepers["gcs"], places.keepers["azure"]
    part = places.files.objects[0].key
    gcs.store.rot(part, b"onE" * 100)
    azure.store.delete(f"points/{places.child.id}/manifest.json")
    [segment] = azure.add_wal(3)
    azure.store.put(segment, wal_content(7))
    gcs.store.delete(segment)
    places.check_all()
    found = places.compare()
    told = {
        (item.code, item.location, item.key) for point in found.points for item in point.differences
    }
    assert told == {
        ("wrong", "gcs", part), ("absent", "azure", f"points/{places.child.id}/manifest.json"),
    }  # fmt: skip
    assert {(item.code, item.location) for item in found.wal} == {
        ("absent", "gcs"), ("other-content", "azure"), ("other-content", "primary"),
    }  # fmt: skip


def test_a_damaged_object_is_copied_back_from_a_good_copy(places: Places) -> None:
    part = places.files.objects[0]
    places.keepers["primary"].store.rot(part.key, b"onE" * 100)
    places.keepers["gcs"].store.rot(part.key, b"oNe" * 100)
    places.check_all()
    result = places.repair()
    assert result.ok
    assert outcomes(result) == [("copied", "primary", part.key), ("copied", "gcs", part.key)]
    assert all(item.found.startswith("from azure") for item in result.repaired)
    assert places.check_all() == SOUND
    assert places.repair().repaired == ()


def test_a_source_that_turns_out_to_be_damaged_too_is_passed_over(places: Places) -> None:
    part = places.files.objects[0]
    places.check_all()
    places.keepers["primary"].store.delete(part.key)
    places.keepers["gcs"].store.rot(part.key, b"oNe" * 100)
    result = places.repair()
    assert outcomes(result) == [("copied", "primary", part.key)]
    assert result.repaired[0].found.startswith("from azure")
    assert places.check("primary").ok


def test_without_a_good_copy_the_point_and_what_builds_on_it_are_quarantined(
    places: Places,
) -> None:
    base = places.full.objects[0]
    for keeper in places.keepers.values():
        keeper.store.rot(base.key, b"x" * base.size_bytes)
    places.check_all()
    result = places.repair()
    assert not result.ok
    assert {item.outcome for item in result.repaired} == {"quarantined"}
    for keeper in places.keepers.values():
        standings = keeper.catalogue.holdings().standings
        assert {item.point.id for item in standings if item.quarantined} == {
            places.full.id, places.child.id,
        }  # fmt: skip
    assert base.key in result.repaired[0].found


def test_all_sources_turn_out_to_be_damaged(places: Places) -> None:
    part = places.files.objects[0]
    for name, data in (("gcs", b"oNe" * 100), ("azure", b"onE" * 100)):
        places.keepers[name].store.rot(part.key, data)
    places.keepers["primary"].store.delete(part.key)
    result = places.repair()
    assert {item.outcome for item in result.repaired} == {"quarantined"}
    assert part.key not in places.keepers["primary"].store.objects


def test_nothing_is_quarantined_while_a_location_does_not_answer(places: Places) -> None:
    part = places.files.objects[0]
    gone = places.keepers.pop("azure")
    for keeper in places.keepers.values():
        keeper.store.rot(part.key, b"onE" * 100)
    places.check_all()
    result = places.repair(unknown=("azure",))
    assert {item.outcome for item in result.repaired} == {"left"}
    assert not result.ok
    places.keepers["azure"] = gone
    assert places.repair().ok


def test_a_source_that_does_not_answer_is_no_reason_to_quarantine(places: Places) -> None:
    part = places.files.objects[0]
    places.keepers["primary"].store.delete(part.key)
    for name in ("gcs", "azure"):
        places.keepers[name].store.refuse[part.key] = Throttled("503")
    result = places.repair()
    assert {item.outcome for item in result.repaired} == {"failed"}
    assert places.keepers["primary"].catalogue.holdings().standings
    for name in ("gcs", "azure"):
        places.keepers[name].store.refuse.clear()
    assert places.repair().ok


@pytest.mark.parametrize("index", [True, False])
@pytest.mark.parametrize(
    "content", [b"{", None, b'{"point": {}, "digest": ""}', bytes(LARGEST_BYTES + 1)],
    ids=["broken", "gone", "empty", "huge"],
)  # fmt: skip
def test_a_manifest_is_replaced_by_the_one_that_is_vouched_for(
    index: bool, content: bytes | None
) -> None:
    places = Places(index=index)
    key = f"points/{places.files.id}/manifest.json"
    store = places.keepers["primary"].store
    good = store.objects[key]
    places.check_all()
    if content is None:
        if not index:
            return  # A point that nothing names is not missed.
        store.delete(key)
        store.delete(places.files.objects[1].key)
    else:
        store.put(key, content)
    result = places.repair()
    assert ("copied", "primary", key) in outcomes(result)
    assert store.objects[key] == good
    assert store.largest_bytes <= LARGEST_BYTES
    assert places.repair().ok
    assert places.check("primary").ok


def test_a_manifest_comes_from_the_next_location_when_one_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    places = Places(index=True)
    key = f"points/{places.files.id}/manifest.json"
    store = places.keepers["primary"].store
    good = store.objects[key]
    store.put(key, b"{")
    actions = decide_repair(places.views())
    [action] = [it for it in actions if it.do == "copy-manifest"]
    assert action.sources == ("gcs", "azure")

    def refuse(key: str) -> bytes:
        raise Unavailable("no answer")

    stores = {name: keeper.store for name, keeper in places.keepers.items()}
    monkeypatch.setattr(stores["gcs"], "get", refuse)
    assert apply_repair(actions, stores, {}, clock=places.clock).ok
    assert store.objects[key] == good


def test_a_manifest_forged_in_most_places_is_not_believed_against_the_index() -> None:
    places = Places(index=True)
    key = f"points/{places.files.id}/manifest.json"
    forged = dataclasses.replace(places.files, note="forged")
    other = Keeper(places.clock)
    other.catalogue.add(forged)
    for keeper in places.keepers.values():
        keeper.store.put(key, other.store.objects[key])
    [action] = decide_repair(places.views())
    assert (action.do, action.key) == ("quarantine", key)


def test_a_manifest_never_comes_before_its_objects() -> None:
    places = Places(index=True)
    key = f"points/{places.files.id}/manifest.json"
    first, second = (item.key for item in places.files.objects)
    store = places.keepers["primary"].store
    for lost in (key, first, second):
        store.delete(lost)
    for name in ("gcs", "azure"):
        places.keepers[name].store.refuse[second] = Throttled("503")
    assert not places.repair().ok
    assert key not in store.objects
    for name in ("gcs", "azure"):
        places.keepers[name].store.refuse.clear()
    assert places.repair().ok
    assert places.check("primary").ok


def test_wal_is_filled_and_mended_from_where_it_is(places: Places) -> None:
    [first, second, _] = places.keepers["gcs"].add_wal(1, 2, 3)
    places.check_all()
    places.keepers["primary"].store.rot(first, wal_content(8))
    places.keepers["primary"].store.delete(second)
    places.check("primary")
    result = places.repair()
    assert result.ok, result
    assert {key for _, _, key in outcomes(result)} == {first, second}
    assert places.check("primary").ok
    for keeper in places.keepers.values():
        keeper.store.delete(second)
    assert {item.outcome for item in places.repair().repaired} == {"quarantined"}


@pytest.mark.parametrize("key", INDEXES)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("wound", ["lost", "changed", "cut"])
def test_an_index_beside_the_wal_is_mended_from_where_it_is(
    places: Places, name: str, key: str, wound: str
) -> None:
    places.check_all()
    store = places.keepers[name].store
    if wound == "lost":
        store.delete(key)
    else:
        store.rot(key, b"{" if wound == "cut" else b"x" * len(INDEXES[key]))
    found = [places.check(name) for _ in range(2)]
    expected = {"lost": "missing", "changed": "damaged", "cut": "truncated"}[wound]
    assert [{(it.code, it.key) for it in one.findings} for one in found] == [{(expected, key)}] * 2
    assert outcomes(places.repair()) == [("copied", name, key)]
    assert store.objects[key] == INDEXES[key]
    assert places.check(name).ok


def test_an_index_that_no_location_has_stays_red_and_costs_no_point(places: Places) -> None:
    places.check_all()
    [key, _] = INDEXES
    for keeper in places.keepers.values():
        keeper.store.delete(key)
    assert outcomes(places.repair()) == [("left", "", key)]
    for _ in range(2):
        assert places.check_all() == {name: {"missing"} for name in NAMES}
    assert not any(view.survey.quarantined for view in places.views())


def test_an_index_that_was_never_read_where_it_is_gone_is_missed_beside_the_others(
    places: Places,
) -> None:
    [key, _] = INDEXES
    places.keepers["primary"].store.delete(key)
    places.check_all()
    assert [(it.location, it.code, it.key) for it in places.compare().wal] == [
        ("primary", "absent", key)
    ]


def test_extra_objects_are_named_and_never_deleted(places: Places) -> None:
    store = places.keepers["primary"].store
    store.put("wal/ransom-note", b"pay")
    places.clock.at += timedelta(days=2)
    result = places.repair()
    assert outcomes(result) == [("left", "primary", "wal/ransom-note")]
    assert store.objects["wal/ransom-note"] == b"pay"


def test_a_good_object_is_never_written_over(places: Places) -> None:
    part = places.files.objects[0]
    store = places.keepers["primary"].store
    good = store.objects[part.key]
    store.rot(part.key, b"onE" * 100)
    places.check_all()
    actions = decide_repair(places.views())
    store.rot(part.key, good)
    written = dict(store.written)
    stores = {name: keeper.store for name, keeper in places.keepers.items()}
    result = apply_repair(actions, stores, {}, clock=places.clock)
    assert [item.outcome for item in result.repaired] == ["already-sound"]
    assert store.written == written
    assert canonical_json(result.to_json())


WOUNDS = ("flip", "cut", "lose")


@settings(max_examples=25, deadline=None)
@given(
    wounds=st.lists(
        st.tuples(st.sampled_from(NAMES), st.integers(0, 1000), st.sampled_from(WOUNDS)),
        max_size=6,
    )
)
def test_whatever_is_good_somewhere_is_good_everywhere_after_a_repair(
    wounds: list[tuple[str, int, str]],
) -> None:
    places = Places(index=True)
    assert places.check_all() == SOUND
    truth = places.contents("primary")
    keys = sorted(truth)
    for name, pick, kind in wounds:
        store, key = places.keepers[name].store, keys[pick % len(keys)]
        data = store.objects.get(key, b"")
        if kind == "lose":
            store.objects.pop(key, None)
        elif data:
            store.rot(key, data[:-1] if kind == "cut" else bytes([data[0] ^ 1]) + data[1:])
    alive = {
        key: any(places.contents(name).get(key) == truth[key] for name in NAMES) for key in keys
    }
    places.check_all()
    for _ in range(2):
        places.repair()
        places.check_all()
    for name in NAMES:
        standings = places.keepers[name].catalogue.holdings().standings
        quarantined = {item.point.id for item in standings if item.quarantined}
        for key in keys:
            point_id = key.split("/")[1]
            if alive[key] and point_id not in quarantined and key.startswith("points/"):
                hurt = any(
                    not alive[other] for other in keys if other.startswith(f"points/{point_id}/")
                )
                assert hurt or places.contents(name).get(key) == truth[key], (name, key)
            if alive[key] and key in INDEXES:
                assert places.contents(name).get(key) == truth[key], (name, key)
        for key, data in places.contents(name).items():
            assert not key.endswith("/quarantine.json") or not all(alive.values()), data
