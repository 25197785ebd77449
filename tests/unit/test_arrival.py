"""What an event of S3 starts: late, twice, out of order, and from somebody who should not write."""

from __future__ import annotations

from datetime import timedelta

import pytest

from chalicelib.errors import Throttled, Unavailable
from chalicelib.plan.manifest import LARGEST_BYTES
from chalicelib.verify.copies.arrival import Arrival, check_arrival
from chalicelib.verify.copies.ledger import load_ledger
from chalicelib.verify.copies.location import verify_location
from chalicelib.verify.copies.rotation import CheckPolicy
from tests.fakes import InMemoryObjectStore
from tests.fakes_state import InMemoryState
from tests.integrity_stores import Keeper, wal_content

MINUTE = timedelta(minutes=1)


class Gate:
    def __init__(self, *, checksums: bool = True) -> None:
        self.keeper = Keeper(checksums=checksums, index=InMemoryState())
        self.ledgers = InMemoryObjectStore()
        self.point = self.keeper.add(b"one" * 10, b"two" * 10)
        self.part = self.point.objects[0].key
        self.manifest = f"points/{self.point.id}/manifest.json"

    def arrive(self, key: str, prefix: str = "db/") -> Arrival:
        event = {"detail": {"bucket": {"name": "backups"}, "object": {"key": f"db/{key}"}}}
        return check_arrival(
            event, self.keeper.store, prefix=prefix, index=self.keeper.catalogue.indexed() or {},
            ledger=load_ledger(self.ledgers, "db/primary"), clock=self.keeper.clock,
        )  # fmt: skip

    def check(self) -> None:
        verify_location(
            self.keeper.store, self.keeper.catalogue, location="primary", component="db",
            policy=CheckPolicy(), ledgers=self.ledgers, clock=self.keeper.clock,
        )  # fmt: skip

    def later(self) -> None:
        self.keeper.clock.at += MINUTE


@pytest.fixture
def gate() -> Gate:
    return Gate()


def codes(arrival: Arrival) -> list[tuple[str, str]]:
    return [(item.code, item.key) for item in arrival.findings]


def test_a_manifest_starts_a_look_at_its_whole_point(gate: Gate) -> None:
    arrival = gate.arrive(gate.manifest)
    assert (arrival.ok, arrival.kind, arrival.looked, arrival.read_bytes) == (
        True, "manifest", 2, 0,
    )  # fmt: skip
    gate.keeper.store.delete(gate.part)
    assert codes(gate.arrive(gate.manifest)) == [("missing", gate.part)]


def test_a_late_or_repeated_event_reads_nothing_and_finds_nothing() -> None:
    gate = Gate(checksums=False)
    for _ in range(2):
        arrival = gate.arrive(gate.part)
        assert (arrival.ok, arrival.kind) == (True, "object")
    assert gate.keeper.store.read_keys == []


def test_an_object_before_its_manifest_is_a_backup_on_its_way(gate: Gate) -> None:
    gate.keeper.store.put("points/20261102T000000Z-files/part-0", b"?")
    assert gate.arrive("points/20261102T000000Z-files/part-0").ok


def test_what_is_gone_again_is_no_finding(gate: Gate) -> None:
    for key in (
        "wal/00000001/000000010000000000000001.zst",
        "points/x/part-0",
        "points/x/manifest.json",
    ):
        arrival = gate.arrive(key)
        assert (arrival.ok, arrival.kind) == (True, "gone")


@pytest.mark.parametrize("checksums", [True, False])
@pytest.mark.parametrize("data", [b"onE" * 10, b"longer" * 10, b"x"])
def test_an_unexpected_writer_is_named(checksums: bool, data: bytes) -> None:
    gate = Gate(checksums=checksums)
    gate.later()
    gate.keeper.store.put(gate.part, data)
    arrival = gate.arrive(gate.part)
    assert codes(arrival) == [("overwritten", gate.part)]


def test_the_same_content_written_again_is_sound() -> None:
    gate = Gate(checksums=False)
    gate.later()
    gate.keeper.store.put(gate.part, b"one" * 10)
    arrival = gate.arrive(gate.part)
    assert (arrival.ok, arrival.read_bytes) == (True, 30)


def test_an_object_that_a_complete_point_does_not_know_is_extra(gate: Gate) -> None:
    key = f"points/{gate.point.id}/note.txt"
    gate.keeper.store.put(key, b"pay")
    assert codes(gate.arrive(key)) == [("extra", key)]
    gate.keeper.store.put("wal/pay.txt", b"pay")
    assert codes(gate.arrive("wal/pay.txt")) == [("extra", "wal/pay.txt")]


def test_a_forged_manifest_is_named_when_it_arrives(gate: Gate) -> None:
    forged = Keeper(gate.keeper.clock)
    forged.add(b"poison")
    gate.keeper.store.put(gate.manifest, forged.store.objects[gate.manifest])
    assert codes(gate.arrive(gate.manifest)) == [("tampered", gate.manifest)]
    gate.keeper.store.put(gate.manifest, b"{")
    assert codes(gate.arrive(gate.manifest)) == [("tampered", gate.manifest)]


def test_a_manifest_larger_than_any_is_named_and_not_read(gate: Gate) -> None:
    gate.keeper.store.put(gate.manifest, bytes(LARGEST_BYTES + 1))
    for key in (gate.manifest, gate.part):
        assert codes(gate.arrive(key)) == [("tampered", gate.manifest)]
    assert gate.keeper.store.largest_bytes <= LARGEST_BYTES


@pytest.mark.parametrize("checksums", [True, False])
def test_wal_written_over_is_named_once_it_was_read(checksums: bool) -> None:
    gate = Gate(checksums=checksums)
    [key] = gate.keeper.add_wal(1)
    assert gate.arrive(key).ok
    gate.check()
    assert gate.arrive(key).ok
    gate.keeper.store.put(key, wal_content(2))
    assert codes(gate.arrive(key)) == [("overwritten", key)]


@pytest.mark.parametrize("checksums", [True, False])
def test_an_index_written_over_is_named_once_it_was_read(checksums: bool) -> None:
    gate = Gate(checksums=checksums)
    key = "schemas/2026-11-01T00:00:00.000000Z.json"
    gate.keeper.store.put(key, b"{}")
    assert gate.arrive(key).ok
    gate.check()
    gate.keeper.store.put(key, b"[]")
    assert codes(gate.arrive(key)) == [("overwritten", key)]
    assert codes(gate.arrive("schemas/readme.txt")) == [("extra", "schemas/readme.txt")]


@pytest.mark.parametrize("key", ["READ_ME_TO_RECOVER.txt", "points/readme.txt", "point/x/y"])
def test_what_lies_beside_the_copies_and_is_nobodys_is_extra(gate: Gate, key: str) -> None:
    gate.keeper.store.put(key, b"pay")
    assert codes(gate.arrive(key)) == [("extra", key)]
    gate.keeper.store.delete(key)
    assert gate.arrive(key).kind == "gone"


def test_notes_and_other_objects_are_let_pass(gate: Gate) -> None:
    assert gate.arrive(f"points/{gate.point.id}/hold.json").kind == "note"
    assert gate.arrive("copying/x").kind == "other"
    assert gate.arrive(gate.part, prefix="another/").kind == "other"


def test_a_store_that_does_not_answer_is_not_green(gate: Gate) -> None:
    facts = gate.keeper.store.facts

    def refuse(key: str) -> object:
        if key == gate.part:
            raise Throttled("503")
        return facts(key)

    gate.keeper.store.facts = refuse  # type: ignore[method-assign,assignment]
    arrival = gate.arrive(gate.manifest)
    assert not arrival.ok
    assert [item.key for item in arrival.unreached] == [gate.part]
    with pytest.raises(Unavailable):
        gate.arrive(gate.part)
