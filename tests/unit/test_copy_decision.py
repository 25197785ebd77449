"""Copies of points and WAL: what is decided, in which order, and what a crash leaves."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.adapters.catalogue import StoredCatalogue
from chalicelib.backup.copies import CopyResult, apply_copies
from chalicelib.backup.copy_decision import decide_copies
from chalicelib.errors import Unavailable
from chalicelib.plan.records import DatabasePoint, StoredObject
from chalicelib.plan.wal import COPIED
from chalicelib.ports import Listed, ObjectStore
from tests.fakes import FailingObjectStore, InMemoryObjectStore
from tests.fakes_state import InMemoryState

AT = datetime(2026, 11, 22, 8, 45, tzinfo=UTC)
SEGMENT = "wal/00000001/0000000100000000000000{:02X}.zst"


class FixedClock:
    def __init__(self, at: datetime) -> None:
        self.at = at

    def now(self) -> datetime:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


class DatedStore(InMemoryObjectStore):
    """Every object was stored at AT."""

    def list(self, prefix: str = "") -> list[Listed]:  # type: ignore[override]
        return [dataclasses.replace(row, modified_at=AT) for row in super().list(prefix)]


class Source:
    """Two points (the second builds on the first), three segments of WAL, an index."""

    def __init__(self) -> None:
        self.store = DatedStore()
        self.catalogue = StoredCatalogue(self.store, "db")
        for number in (1, 2, 3):
            self.store.put(SEGMENT.format(number), b"wal %d" % number)
        self.store.put("wal/00000001/000000010000000000000003.0000000003000100.partial.zst", b"old")
        self.store.put("relations/20261122T084500Z.json", b"{}")
        self.add("20261122T080000Z-full", "full", None)
        self.add("20261122T083000Z-incr", "incremental", "20261122T080000Z-full")

    def add(self, point_id: str, kind: str, parent: str | None) -> None:
        stored = tuple(
            self.store.put(f"points/{point_id}/{name}", f"{point_id} {name}".encode())
            for name in ("base.tar.zst", "backup_manifest")
        )
        self.catalogue.add(
            DatabasePoint(
                id=point_id,
                component="db",
                kind=kind,
                taken_at=AT,
                finished_at=AT,  # type: ignore[arg-type]
                objects=stored,
                source_bytes=4,
                encryption="none",
                parent_id=parent,
                system_id="1",
                server_version=170010,
                timeline=1,
                start_lsn=0x1000028,
                end_lsn=0x1000100,
            )  # fmt: skip
        )

    def copy_to(self, target: ObjectStore, *, until: datetime | None = None) -> CopyResult:
        rows = self.store.list()
        decision = decide_copies(self.catalogue.holdings(), rows, target.list())
        clock = FixedClock(AT + timedelta(seconds=90))
        return apply_copies(decision, self.store, target, clock=clock, until=until)


@pytest.fixture
def source() -> Source:
    return Source()


def equal(source: Source, target: InMemoryObjectStore) -> bool:
    """All that a recovery uses is there; what is superseded need not be."""
    mine = {key: data for key, data in source.store.objects.items() if ".partial." not in key}
    own = {key for key in target.objects if key == COPIED or key.endswith("/sealed.json")}
    theirs = {key: data for key, data in target.objects.items() if key not in own}
    return mine == theirs


def test_a_copy_holds_all_that_a_recovery_uses_and_nothing_superseded(source: Source) -> None:
    target = InMemoryObjectStore()
    result = source.copy_to(target)

    assert result.complete
    assert equal(source, target)
    assert result.lag_seconds == 90
    points = StoredCatalogue(target, "db").inventory().points
    assert [point.id for point in points] == ["20261122T080000Z-full", "20261122T083000Z-incr"]


def test_what_is_there_is_not_copied_again(source: Source) -> None:
    target = InMemoryObjectStore()
    source.copy_to(target)
    again = source.copy_to(target)
    assert (again.copied, again.remaining, again.lag_seconds, again.complete) == (0, 0, 0.0, True)


def test_a_manifest_is_copied_after_its_objects_and_an_older_point_first(source: Source) -> None:
    decision = decide_copies(source.catalogue.holdings(), source.store.list(), [])
    keys = [item.key for item in decision.items]
    full, incremental = (keys.index(f"points/{p.point.id}/manifest.json")
                         for p in source.catalogue.holdings().standings)  # fmt: skip
    assert full < incremental == len(keys) - 1
    assert keys[:3] == [SEGMENT.format(number) for number in (1, 2, 3)]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=4))
def test_a_crash_at_any_write_leaves_whole_points_and_the_next_run_completes(
    crashes: list[int],
) -> None:
    source, target = Source(), InMemoryObjectStore()
    for fail_at in crashes:
        failing = FailingObjectStore(target, Unavailable("gone", hint="wait"), fail_at=fail_at)
        result = source.copy_to(failing)
        assert result.complete == (not result.failures)
        assert not StoredCatalogue(target, "db").holdings().rejected
    assert source.copy_to(target).complete
    assert equal(source, target)


def test_a_quarantined_point_is_marked_there_first_and_its_data_stays_here(source: Source) -> None:
    point_id = "20261122T083000Z-incr"
    source.catalogue.quarantine(point_id, code="infected", reason="after the infection", at=AT)
    target = InMemoryObjectStore()

    decision = decide_copies(source.catalogue.holdings(), source.store.list(), [])
    assert decision.items[0].key == f"points/{point_id}/quarantine.json"
    assert source.copy_to(target).complete
    assert [key for key in target.objects if point_id in key] == [decision.items[0].key]


def test_a_point_quarantined_after_it_was_copied_is_refused_there_too(source: Source) -> None:
    target = InMemoryObjectStore()
    source.copy_to(target)
    point_id = "20261122T083000Z-incr"
    source.catalogue.quarantine(point_id, code="infected", reason="after the infection", at=AT)
    source.copy_to(target)
    held = StoredCatalogue(target, "db").holdings().standings
    assert [item.quarantined for item in held] == ["", "after the infection"]


def test_what_is_damaged_here_alone_stays_of_use_where_it_was_copied_before(source: Source) -> None:
    source.copy_to(target := InMemoryObjectStore())
    point_id = "20261122T083000Z-incr"
    source.catalogue.quarantine(point_id, code="digest-mismatch", reason="rotten", at=AT)
    assert source.copy_to(target).complete
    held = StoredCatalogue(target, "db").holdings().standings
    assert [item.quarantined for item in held] == ["", ""]
    source.copy_to(later := InMemoryObjectStore())
    assert not [key for key in later.objects if point_id in key]


def test_an_emptied_source_takes_no_hold_and_no_quarantine_from_its_copies(
    source: Source,
) -> None:
    full, increment = "20261122T080000Z-full", "20261122T083000Z-incr"
    source.copy_to(target := InMemoryObjectStore())
    there = StoredCatalogue(target, "db")
    there.hold(full, reason="legal", at=AT)
    there.quarantine(increment, code="infected", reason="after the infection", at=AT)
    notes = {key for key in target.objects if key.endswith(("hold.json", "quarantine.json"))}

    source.store.objects.clear()
    source.copy_to(target)
    assert notes <= target.objects.keys()


def test_a_quarantine_that_the_index_still_knows_is_not_lifted_elsewhere() -> None:
    """Whoever removes the note in the primary location has not released the point."""
    source, state = Source(), InMemoryState()
    point_id = "20261122T083000Z-incr"
    source.catalogue = StoredCatalogue(source.store, "db", index=state)
    source.catalogue.index_from(StoredCatalogue(source.store, "db").holdings())
    source.catalogue.quarantine(point_id, code="infected", reason="bad", at=AT)
    source.copy_to(target := InMemoryObjectStore())

    source.store.delete(f"points/{point_id}/quarantine.json")
    source.copy_to(target)
    assert f"points/{point_id}/quarantine.json" in target.objects


def test_a_source_that_vouches_for_nothing_says_so(source: Source) -> None:
    """That all of nothing was copied is no good news: the job's metric waits for more."""
    assert source.copy_to(target := InMemoryObjectStore()).vouched == 2
    source.store.objects.clear()
    result = source.copy_to(target)
    assert (result.copied, result.complete, result.vouched) == (0, True, 0)


def test_points_that_nothing_may_use_are_no_copy(source: Source) -> None:
    for point_id in ("20261122T080000Z-full", "20261122T083000Z-incr"):
        source.catalogue.quarantine(point_id, code="infected", reason="bad", at=AT)
    result = source.copy_to(InMemoryObjectStore())
    assert (result.complete, result.vouched) == (True, 0)


@pytest.mark.parametrize("name", ["base.tar.zst", "backup_manifest"])
def test_what_the_target_has_lost_of_a_point_is_copied_again_and_told(
    source: Source, name: str
) -> None:
    """Its manifest is there, so that it looks like a point that was copied."""
    source.copy_to(target := InMemoryObjectStore())
    key = f"points/20261122T080000Z-full/{name}"
    target.delete(key)
    result = source.copy_to(target)
    assert (result.copied, result.lost, result.complete) == (1, (key,), True)
    assert equal(source, target)
    assert source.copy_to(target).lost == ()


def test_a_damaged_source_replaces_nothing_that_the_target_has_lost(source: Source) -> None:
    key = "points/20261122T080000Z-full/base.tar.zst"
    source.copy_to(target := InMemoryObjectStore())
    target.delete(key)
    source.store.objects[key] = b"x" * len(source.store.objects[key])
    result = source.copy_to(target)
    assert [failure.key for failure in result.failures] == [key]
    assert not result.complete
    assert key not in target.objects


def test_what_only_the_copy_had_quarantined_is_free_again_to_be_checked_and_mended(
    source: Source,
) -> None:
    point_id = "20261122T083000Z-incr"
    source.copy_to(target := InMemoryObjectStore())
    StoredCatalogue(target, "db").quarantine(point_id, code="damaged", reason="here", at=AT)
    source.copy_to(target)
    assert f"points/{point_id}/quarantine.json" not in target.objects


def test_a_released_hold_is_released_there(source: Source) -> None:
    target = InMemoryObjectStore()
    source.catalogue.hold("20261122T080000Z-full", reason="legal", at=AT)
    source.copy_to(target)
    assert StoredCatalogue(target, "db").holdings().standings[0].held == "legal"
    source.catalogue.release("20261122T080000Z-full")
    source.copy_to(target)
    assert StoredCatalogue(target, "db").holdings().standings[0].held == ""


def test_a_damaged_object_is_not_copied_and_its_point_does_not_count_there(source: Source) -> None:
    source.store.objects["points/20261122T080000Z-full/base.tar.zst"] = b"x" * 33
    target = InMemoryObjectStore()
    result = source.copy_to(target)

    (failure,) = result.failures
    assert failure.key == "points/20261122T080000Z-full/base.tar.zst"
    assert failure.code == "digest-mismatch"
    assert not result.complete
    ids = [point.id for point in StoredCatalogue(target, "db").inventory().points]
    assert ids == ["20261122T083000Z-incr"]


def test_a_target_that_stores_other_bytes_is_found_out(source: Source) -> None:
    class Liar(InMemoryObjectStore):
        def put(self, key: str, data: bytes, *, if_absent: bool = False) -> StoredObject:
            stored = super().put(key, data, if_absent=if_absent)
            return dataclasses.replace(stored, sha256="0" * 64) if "base" in key else stored

    liar = Liar()
    for _ in range(2):
        result = source.copy_to(liar)
        assert {failure.code for failure in result.failures} == {"digest-mismatch"}
        assert not result.complete
        assert StoredCatalogue(liar, "db").holdings().standings == ()


def test_an_object_that_differs_is_left_and_said(source: Source) -> None:
    target = InMemoryObjectStore()
    source.copy_to(target)
    target.put(SEGMENT.format(1), b"another length")
    result = source.copy_to(target)
    assert (result.differing, result.complete) == ((SEGMENT.format(1),), False)
    assert target.get(SEGMENT.format(1)) == b"another length"


def test_what_does_not_fit_into_the_time_remains_and_counts_as_lag(source: Source) -> None:
    target = InMemoryObjectStore()
    result = source.copy_to(target, until=AT)
    assert (result.copied, result.complete) == (0, False)
    assert result.remaining == 10
    assert result.lag_seconds == 90


def test_a_copy_does_not_claim_moments_that_it_does_not_hold(source: Source) -> None:
    """Its segments are younger than what is in them."""
    target = InMemoryObjectStore()
    source.copy_to(target)
    (mine,) = source.catalogue.inventory().windows
    (theirs,) = StoredCatalogue(target, "db").inventory().windows
    assert (theirs.end_lsn, theirs.end_at) == (mine.end_lsn, AT)

    target.delete(SEGMENT.format(3))
    target.delete(SEGMENT.format(2))
    (shorter,) = StoredCatalogue(target, "db").inventory().windows
    assert shorter.end_lsn < mine.end_lsn
    target.put(COPIED, b"\xff")
    (unknown,) = StoredCatalogue(target, "db").inventory().windows
    assert unknown.end_at == unknown.start_at


def test_the_copy_says_by_which_keys_it_is_sealed(source: Source) -> None:
    class Sealed(InMemoryObjectStore):
        encryption = "AES-256-GCM, data key k1"

    target = Sealed()
    source.copy_to(target)
    note = json.loads(target.get("points/20261122T080000Z-full/sealed.json"))
    assert note == {"encryption": "AES-256-GCM, data key k1"}
    assert source.copy_to(target).complete


class TakingOver(InMemoryObjectStore):
    """A store of the same service: it fetches objects itself, and may fetch them badly."""

    def __init__(self, source: InMemoryObjectStore, *, damaged: bytes = b"") -> None:
        super().__init__()
        self.source, self.damaged, self.taken = source, damaged, 0

    def copy_from(self, source: ObjectStore, key: str, **_: Any) -> StoredObject | None:
        if source is not self.source:
            return None
        self.taken += 1
        return self.put(key, self.damaged or self.source.get(key))


def test_a_store_of_the_same_service_copies_by_itself(source: Source) -> None:
    target = TakingOver(source.store)
    assert source.copy_to(target).complete
    assert target.taken == 4
    assert StoredCatalogue(target, "db").inventory().points


def test_what_such_a_store_took_over_wrongly_does_not_stay(source: Source) -> None:
    target = TakingOver(source.store, damaged=b"other")
    for _ in range(2):
        assert not source.copy_to(target).complete
        assert StoredCatalogue(target, "db").holdings().standings == ()
