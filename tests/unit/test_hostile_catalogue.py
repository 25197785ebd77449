"""Whoever can write one small object beside the backups cannot keep the others from being used."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from chalicelib.adapters.catalogue import StoredCatalogue
from chalicelib.errors import Tampered
from chalicelib.plan.manifest import (
    LARGEST_BYTES,
    parse_manifest,
    point_key,
    without_beginning,
    write_manifest,
)
from chalicelib.plan.record import canonical_json, digest_of, has_types, parse_time, read_json
from chalicelib.plan.records import (
    CheckResult,
    DatabasePoint,
    Proof,
    RecoveryTarget,
    StoredObject,
)
from chalicelib.plan.wal import parse_history
from tests.fakes import InMemoryObjectStore

AT = datetime(2026, 11, 22, tzinfo=UTC)
GOOD, FORGED = "20261122T000000Z-full", "20261123T000000Z-full"
DEEP = b"[" * 100_000
NO_TIME = "0001-01-01T00:00:00+14:00"


def good() -> DatabasePoint:
    item = StoredObject(point_key(GOOD, "base.tar.zst"), 1, hashlib.sha256(b"x").hexdigest())
    return DatabasePoint(
        id=GOOD, component="db", kind="full", taken_at=AT, finished_at=AT, objects=(item,),
        source_bytes=1, encryption="", system_id="1", server_version=170000, timeline=1,
        start_lsn=100, end_lsn=200,
    )  # fmt: skip


def forged(point: str = FORGED, **change: Any) -> bytes:
    """A manifest that agrees with its own digest, as anybody can make one."""
    content = good().to_json() | {"id": point, "objects": []} | change
    return canonical_json({"point": content, "digest": digest_of(content)})


def store_with(**objects: bytes) -> InMemoryObjectStore:
    store = InMemoryObjectStore()
    store.put(point_key(GOOD, "base.tar.zst"), b"x")
    store.put(point_key(GOOD, "manifest.json"), write_manifest(good()))
    for key, data in objects.items():
        store.put(key, data)
    return store


HOSTILE = [
    {"taken_at": 5},
    {"taken_at": None},
    {"taken_at": NO_TIME},
    {"finished_at": []},
    {"kind": "other"},
    {"kind": ["full"]},
    {"source_bytes": "1"},
    {"source_bytes": True},
    {"segment_bytes": "x"},
    {"timeline": None},
    {"end_lsn": 1.5},
    {"parent_id": ["a"]},
    {"encryption": None},
    {"checksum_failures": 5},
    {"checksum_failures": [5]},
    {"objects": 5},
    {"objects": ["x"]},
    {"objects": [{"key": 5, "size_bytes": 1, "sha256": ""}]},
    {"objects": [{"key": "points/x", "size_bytes": "1", "sha256": ""}]},
    {"objects": [{"key": "points/x"}]},
]


@pytest.mark.parametrize("change", HOSTILE, ids=str)
def test_a_forged_manifest_is_rejected_and_costs_no_other_point(change: dict[str, Any]) -> None:
    with pytest.raises(Tampered):
        parse_manifest(FORGED, forged(**change))
    store = store_with(**{point_key(FORGED, "manifest.json"): forged(**change)})
    found = StoredCatalogue(store, "db").inventory()
    assert [it.point.id for it in found.holdings.standings] == [GOOD]
    assert [it.point_id for it in found.holdings.rejected] == [FORGED]


@pytest.mark.parametrize(
    ("key", "data"),
    [
        (point_key(FORGED, "manifest.json"), DEEP),
        (point_key(FORGED, "manifest.json"), b'{"point":' * 50_000),
        (point_key(GOOD, "proof.json"), DEEP),
        (point_key(GOOD, "hold.json"), DEEP),
        (point_key(GOOD, "read.json"), b'{"read_at": 5}'),
        (point_key(GOOD, "proof.json"), f'{{"proven_at": "{NO_TIME}"}}'.encode()),
        ("wal/00000002.history", b"1\tX/Y\tno position\n"),
        ("wal/00000002.history", "²\t0/1\tno number\n".encode()),
        ("copied.json", DEEP),
        ("copied.json", f'{{"ends": [[1, 2, "{NO_TIME}"]]}}'.encode()),
    ],
)
def test_what_cannot_be_read_costs_what_it_says_alone(key: str, data: bytes) -> None:
    found = StoredCatalogue(store_with(**{key: data}), "db").inventory()
    [standing] = found.holdings.standings
    assert (standing.point.id, standing.proven_at, standing.read_at) == (GOOD, None, None)
    # A hold that nobody can read still holds.
    assert bool(standing.held) is key.endswith("hold.json")


class Unread(InMemoryObjectStore):
    """Nobody takes what is so large into memory."""

    def get(self, key: str) -> bytes:
        data = super().get(key)
        assert len(data) <= LARGEST_BYTES, key
        return data


@pytest.mark.parametrize("name", ["manifest.json", "quarantine.json", "proof.json"])
def test_what_is_larger_than_anything_of_its_kind_is_not_read(name: str) -> None:
    store = Unread()
    for key, data in store_with().objects.items():
        store.put(key, data)
    point = FORGED if name == "manifest.json" else GOOD
    store.put(point_key(point, name), b" " * (LARGEST_BYTES + 1))
    [standing] = StoredCatalogue(store, "db").holdings().standings
    assert (standing.point.id, standing.proven_at) == (GOOD, None)
    assert bool(standing.quarantined) is (name == "quarantine.json")


def test_a_chain_that_leads_back_to_itself_is_none() -> None:
    """Nothing follows it: neither a restore nor a prune would ever come to an end."""
    one, two, on_them = (f"2026112{number}T000000Z-incr" for number in (3, 4, 5))
    store = store_with()
    for point, parent in ((one, two), (two, one), (on_them, one)):
        data = forged(point, kind="incremental", parent_id=parent)
        store.put(point_key(point, "manifest.json"), data)
    own = forged(FORGED, kind="incremental", parent_id=FORGED)
    store.put(point_key(FORGED, "manifest.json"), own)
    found = StoredCatalogue(store, "db").inventory()
    assert [it.point.id for it in found.holdings.standings] == [GOOD]
    assert {it.point_id for it in found.holdings.rejected} == {one, two, on_them, FORGED}


def test_chains_with_a_beginning_stay_however_long_and_also_where_it_is_gone() -> None:
    long = {f"p{number}": f"p{number - 1}" if number else None for number in range(20_000)}
    assert without_beginning(long) == frozenset()
    assert without_beginning({"a": "gone", "b": "a"}) == frozenset()
    assert without_beginning(long | {"x": "y", "y": "x", "z": "y"}) == {"x", "y", "z"}


def test_what_was_written_is_read_as_it_was() -> None:
    assert parse_manifest(GOOD, write_manifest(good()), component="db") == good()
    assert has_types(good())
    check = CheckResult("files", True, "5 bytes")
    target = RecoveryTarget("end", "")
    proof = Proof("db", GOOD, AT, target, 0, None, (check,), {"restore": 1.5, "replay": 0})
    assert has_types(Proof.from_json(proof.to_json()))
    assert not has_types(replace(proof, seconds={"restore": "x"}))
    assert parse_history(b"1\t0/5000000\tno recovery target\n# 2\t0/1\n\n2\t1/A0\tbefore\n") == (
        (1, 0x5000000),
        (2, (1 << 32) + 0xA0),
    )


def test_times_outside_of_all_years_and_json_without_end_are_values_that_are_wrong() -> None:
    with pytest.raises(ValueError, match="years"):
        parse_time(NO_TIME)
    with pytest.raises(ValueError, match="nests"):
        read_json(DEEP)
