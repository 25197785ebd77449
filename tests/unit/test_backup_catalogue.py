"""The catalogue of a component: what counts as a recovery point, with and without its index."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chalicelib.adapters.catalogue import StoredCatalogue
from chalicelib.backup.copy_decision import decide_copies
from chalicelib.backup.retention.decide import decide_retention
from chalicelib.errors import (
    BadInput,
    LeewardError,
    NotReady,
    Quarantined,
    Refused,
    Tampered,
    Unavailable,
)
from chalicelib.plan.components import Retention
from chalicelib.plan.manifest import write_manifest
from chalicelib.plan.records import (
    CheckResult,
    DatabasePoint,
    Proof,
    RecoveryPoint,
    RecoveryTarget,
    canonical_json,
)
from chalicelib.ports import Listed
from chalicelib.recover.choose_copy import Candidate, choose_copy
from chalicelib.recover.points import choose_points
from tests.fakes import InMemoryObjectStore
from tests.fakes_state import InMemoryState

AT = datetime(2026, 11, 22, 8, 45, tzinfo=UTC)
PROOF = Proof(
    component="db", point_id="p1", proven_at=AT, target=RecoveryTarget("end", ""),
    recovered_lsn=2, last_commit_at=None, checks=(CheckResult("amcheck", True, "clean"),),
)  # fmt: skip


class Shelf:
    def __init__(self) -> None:
        self.store = InMemoryObjectStore()
        self.index = InMemoryState()
        self.indexed = StoredCatalogue(self.store, "db", index=self.index)
        self.plain = StoredCatalogue(self.store, "db")

    def add(self, point_id: str, *, entered: bool = True) -> DatabasePoint:
        stored = self.store.put(f"points/{point_id}/base.tar.zst", b"data")
        point = DatabasePoint(
            id=point_id, component="db", kind="full", taken_at=AT, finished_at=AT, system_id="1",
            server_version=170010, timeline=1, start_lsn=1, end_lsn=2, objects=(stored,),
            source_bytes=4, encryption="none",
        )  # fmt: skip
        (self.indexed if entered else self.plain).add(point)
        return point

    def rejected(self) -> list[tuple[str, str]]:
        """With the index; without it the same, unless a test says otherwise."""
        return [(item.point_id, item.code) for item in self.indexed.inventory().rejected]


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


def test_a_point_counts_from_its_manifest_on(shelf: Shelf) -> None:
    shelf.store.put("points/unfinished/base.tar.zst", b"half")
    point = shelf.add("p1")
    for catalogue in (shelf.indexed, shelf.plain):
        assert catalogue.inventory().points == (point,)
        assert catalogue.inventory().rejected == ()


def test_an_inventory_tells_what_it_was_made_of_and_is_read_once(shelf: Shelf) -> None:
    point = shelf.add("p1")
    asked: list[str] = []

    class Asked(InMemoryObjectStore):
        def list(self, prefix: str = "") -> Iterator[Listed]:
            asked.append(prefix)
            return shelf.store.list(prefix)

        def get(self, key: str) -> bytes:
            asked.append(key)
            return shelf.store.get(key)

    found = StoredCatalogue(Asked(), "db").inventory()
    assert [it.point for it in found.holdings.standings] == [point]
    assert found.holdings == shelf.plain.holdings()
    assert sorted(asked) == ["copied.json", "points/", "points/p1/manifest.json", "wal/"]
    assert asked.index("wal/") < asked.index("copied.json")


def test_an_inventory_waits_for_points_and_wal_side_by_side(shelf: Shelf) -> None:
    met = threading.Barrier(2)

    class WaitsForBoth(InMemoryObjectStore):
        def list(self, prefix: str = "") -> Iterator[Listed]:
            met.wait(timeout=10)
            return shelf.store.list(prefix)

    shelf.add("p1")
    assert StoredCatalogue(WaitsForBoth(), "db").inventory().rejected[0].point_id == "p1"


def test_wal_that_cannot_be_listed_is_no_inventory_without_any(shelf: Shelf) -> None:
    class Silent(InMemoryObjectStore):
        def list(self, prefix: str = "") -> Iterator[Listed]:
            if prefix == "wal/":
                raise Unavailable("no answer")
            return shelf.store.list(prefix)

    with pytest.raises(Unavailable):
        StoredCatalogue(Silent(), "db").inventory()


def test_an_id_is_used_once(shelf: Shelf) -> None:
    point = shelf.add("p1")
    with pytest.raises(Refused) as caught:
        shelf.indexed.add(point)
    assert caught.value.instance_code == "exists"


def test_a_manifest_that_changed_is_tampered(shelf: Shelf) -> None:
    shelf.add("p1")
    key = "points/p1/manifest.json"
    shelf.store.objects[key] = shelf.store.objects[key].replace(b'"end_lsn":2', b'"end_lsn":3')
    assert shelf.rejected() == [("p1", "tampered")]
    assert [item.code for item in shelf.plain.inventory().rejected] == ["tampered"]


def test_a_manifest_rewritten_with_its_digest_contradicts_the_index(shelf: Shelf) -> None:
    shelf.add("p1")
    other = Shelf()
    other.add("p2")
    manifest = json.loads(other.store.objects["points/p2/manifest.json"])
    renamed = DatabasePoint.from_json({**manifest["point"], "id": "p1", "end_lsn": 99})
    forged = Shelf()
    forged.store.objects["points/p1/base.tar.zst"] = b"data"
    forged.plain.add(renamed)
    shelf.store.objects["points/p1/manifest.json"] = forged.store.objects["points/p1/manifest.json"]
    assert shelf.rejected() == [("p1", "tampered")]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b'{"point": 1, "digest": ""}', b'{"point": {}}', b"\xff"]
)
def test_a_manifest_that_is_none_is_rejected_and_hides_no_other(
    shelf: Shelf, content: bytes
) -> None:
    shelf.add("p1")
    good = shelf.add("p2")
    shelf.store.objects["points/p1/manifest.json"] = content
    assert shelf.rejected() == [("p1", "tampered")]
    assert shelf.indexed.inventory().points == (good,)


def test_a_manifest_copied_to_another_id_is_rejected(shelf: Shelf) -> None:
    shelf.add("p1")
    shelf.store.objects["points/p9/manifest.json"] = shelf.store.objects["points/p1/manifest.json"]
    assert shelf.rejected() == [("p9", "tampered")]


def test_a_missing_object_or_manifest_is_rejected(shelf: Shelf) -> None:
    shelf.add("p1")
    shelf.add("p2")
    shelf.store.delete("points/p1/base.tar.zst")
    shelf.store.delete("points/p2/manifest.json")
    assert shelf.rejected() == [("p1", "object-missing"), ("p2", "object-missing")]


@pytest.mark.parametrize("kept", ["object", "index"])
def test_either_mark_of_quarantine_is_enough(shelf: Shelf, kept: str) -> None:
    shelf.add("p1")
    shelf.indexed.quarantine("p1", code="digest-mismatch", reason="flipped", at=AT)
    shelf.indexed.quarantine("p1", code="digest-mismatch", reason="flipped", at=AT)
    if kept == "object":
        shelf.index = InMemoryState()
        shelf.indexed = StoredCatalogue(shelf.store, "db", index=shelf.index)
    else:
        shelf.store.delete("points/p1/quarantine.json")
    inventory = shelf.indexed.inventory()
    assert inventory.points == ()
    [rejected] = inventory.rejected
    assert rejected.code == "quarantined"
    assert "flipped" in rejected.reason


class Dying:
    """Whatever it stands before is not there any more after so many writes."""

    def __init__(self, inner: object, left: list[None]) -> None:
        self._inner, self._left = inner, left

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        return self._counted(found) if name in ("put", "delete", "create", "replace") else found

    def _counted(self, write: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*given: Any, **named: Any) -> Any:
            if not self._left:
                raise Unavailable("gone", hint="x")
            self._left.pop()
            return write(*given, **named)

        return counted


@pytest.mark.parametrize("writes", [0, 1, 2])
def test_the_end_of_a_quarantine_dies_anywhere_and_leaves_it_refused(
    shelf: Shelf, writes: int
) -> None:
    shelf.add("p1")
    shelf.indexed.quarantine("p1", code="infected", reason="since noon", at=AT)
    left = [None] * writes
    dying = StoredCatalogue(Dying(shelf.store, left), "db", index=Dying(shelf.index, left))
    with pytest.raises(Unavailable):
        dying.unquarantine("p1", by="ana", reason="a false alarm", at=AT)
    [standing] = shelf.indexed.holdings().standings
    assert (standing.quarantined, standing.quarantine_code) == ("since noon", "infected")
    assert standing.is_suspect

    for _ in range(2):
        shelf.indexed.unquarantine("p1", by="ana", reason="a false alarm", at=AT)
        [standing] = shelf.indexed.holdings().standings
        assert (standing.quarantined, standing.quarantine_code) == ("", "")
        assert standing.unquarantined == "by ana, 2026-11-22 08:45 UTC: a false alarm"
    assert shelf.rejected() == []
    assert shelf.indexed.recorded("p1")


@pytest.mark.parametrize("kept", ["both", "object", "index"])
def test_what_is_infected_stays_so_whatever_is_found_of_a_copy(shelf: Shelf, kept: str) -> None:
    shelf.add("p1")
    shelf.indexed.quarantine("p1", code="digest-mismatch", reason="flipped", at=AT)
    assert shelf.indexed.quarantine_of("p1") == ("flipped", "digest-mismatch")
    shelf.indexed.quarantine("p1", code="infected", reason="since noon", at=AT)
    if kept == "index":
        shelf.store.delete("points/p1/quarantine.json")
    catalogue = shelf.plain if kept == "object" else shelf.indexed
    catalogue.quarantine("p1", code="digest-mismatch", reason="flipped", at=AT)
    assert shelf.indexed.quarantine_of("p1") == ("since noon", "infected")
    [standing] = shelf.indexed.holdings().standings
    assert standing.is_suspect
    assert shelf.plain.quarantine_of("p2") == ("", "")


def test_what_is_quarantined_once_more_is_refused_again(shelf: Shelf) -> None:
    shelf.add("p1")
    shelf.indexed.quarantine("p1", code="infected", reason="since noon", at=AT)
    shelf.indexed.unquarantine("p1", by="ana", reason="a false alarm", at=AT)
    shelf.indexed.quarantine("p1", code="infected", reason="since one", at=AT)
    assert shelf.rejected() == [("p1", "quarantined")]


def test_a_quarantine_note_that_cannot_be_read_still_counts(shelf: Shelf) -> None:
    shelf.add("p1")
    shelf.store.put("points/p1/quarantine.json", b"\xff")
    assert shelf.rejected() == [("p1", "quarantined")]


def test_progress_is_the_last_that_was_noted(shelf: Shelf) -> None:
    assert shelf.indexed.wal_progress() == {}
    shelf.indexed.note_wal_progress({"end_lsn": 1, "partial": "k"})
    shelf.indexed.note_wal_progress({"end_lsn": 2, "partial": ""})
    assert shelf.indexed.wal_progress() == {"end_lsn": 2, "partial": ""}
    assert shelf.plain.wal_progress() == {}


def test_manifests_have_one_byte_form(shelf: Shelf) -> None:
    shelf.add("p1")
    content = shelf.store.objects["points/p1/manifest.json"]
    assert content == canonical_json(json.loads(content))


def test_what_is_known_of_a_point_stands_beside_its_manifest(shelf: Shelf) -> None:
    shelf.add("p1")
    shelf.add("p2")
    shelf.indexed.note_proof("p1", PROOF)
    shelf.indexed.note_read("p1", AT)
    shelf.indexed.hold("p2", reason="legal", at=AT)
    shelf.indexed.quarantine("p2", code="infected", reason="after the infection", at=AT)

    first, second = shelf.indexed.holdings().standings
    assert (first.proven_at, first.read_at, first.held) == (AT, AT, "")
    assert (second.held, second.quarantined) == ("legal", "after the infection")

    shelf.indexed.release("p2")
    assert [item.held for item in shelf.indexed.holdings().standings] == ["", ""]


def test_a_note_that_cannot_be_read_proves_nothing_and_still_holds(shelf: Shelf) -> None:
    shelf.add("p1")
    for name in ("proof", "read", "hold"):
        shelf.store.put(f"points/p1/{name}.json", b"\xff")

    (standing,) = shelf.indexed.holdings().standings
    assert (standing.proven_at, standing.read_at) == (None, None)
    assert standing.held == "its note cannot be read"


def test_a_failed_check_is_no_proof(shelf: Shelf) -> None:
    shelf.add("p1")
    failed = dataclasses.replace(PROOF, checks=(CheckResult("amcheck", False, "bad"),))
    with pytest.raises(BadInput, match="checks all passed"):
        shelf.indexed.note_proof("p1", failed)


def test_a_forgotten_point_is_neither_listed_nor_missed(shelf: Shelf) -> None:
    shelf.add("p1")
    shelf.indexed.forget("p1")
    shelf.indexed.forget("p1")
    held = shelf.indexed.holdings()
    assert (held.standings, held.rejected) == ((), ())


class Unopened(InMemoryObjectStore):
    """`errors`: what getting a note of that name raises."""

    errors: dict[str, LeewardError]

    def get(self, key: str) -> bytes:
        if error := self.errors.get(key.rpartition("/")[2]):
            raise error
        return super().get(key)


def test_a_note_that_nobody_can_open_costs_only_what_it_says() -> None:
    """Somebody wrote over it, or sealed it for a key that is not here: the point stays of use."""
    store = Unopened()
    store.errors = {}
    catalogue, point_id = StoredCatalogue(store, "db"), "a1"
    stored = store.put("points/a1/files.tar.zst", b"x")
    catalogue.add(
        RecoveryPoint(
            id=point_id, component="db", kind="archive", taken_at=AT, finished_at=AT,
            objects=(stored,), source_bytes=1, encryption="none",
        )
    )  # fmt: skip
    for name in ("proof.json", "read.json"):
        store.put(f"points/{point_id}/{name}", b"sealed for nobody")
    store.errors = {
        "proof.json": NotReady("no key fits", code="no-key-fits", hint="x"),
        "read.json": Tampered("altered", hint="x"),
    }
    [standing] = catalogue.holdings().standings
    assert (standing.proven_at, standing.read_at, standing.quarantined) == (None, None, "")

    store.put(f"points/{point_id}/quarantine.json", b"sealed for nobody")
    store.errors["quarantine.json"] = Tampered("altered", hint="x")
    assert catalogue.holdings().standings[0].quarantined

    store.errors["proof.json"] = Unavailable("503", hint="x")
    with pytest.raises(Unavailable):
        catalogue.holdings()


def test_a_whole_point_of_another_component_is_none_of_this_one(shelf: Shelf) -> None:
    """Copied here with all of its objects, it would bring back the data of that one."""
    other = StoredCatalogue(shelf.store, "billing")
    stored = shelf.store.put("points/a1/files.tar.zst", b"x")
    other.add(
        RecoveryPoint(
            id="a1", component="billing", kind="archive", taken_at=AT, finished_at=AT,
            objects=(stored,), source_bytes=1, encryption="none",
        )
    )  # fmt: skip
    assert [it.point.id for it in other.holdings().standings] == ["a1"]
    held = StoredCatalogue(shelf.store, "db").holdings()
    assert held.standings == ()
    assert [(it.point_id, it.code) for it in held.rejected] == [("a1", "tampered")]
    assert "one of billing" in held.rejected[0].reason


def test_points_of_other_kinds_keep_their_shape(shelf: Shelf) -> None:
    stored = shelf.store.put("points/a1/files.tar.zst", b"x")
    point = RecoveryPoint(
        id="a1", component="db", kind="archive", taken_at=AT, finished_at=AT,
        objects=(stored,), source_bytes=1, encryption="none",
    )  # fmt: skip
    shelf.indexed.add(point)
    assert [item.point for item in shelf.indexed.holdings().standings] == [point]
    assert shelf.indexed.inventory().points == ()


def test_a_lost_index_is_made_again_from_the_manifests(shelf: Shelf) -> None:
    shelf.add("p1")
    shelf.add("p2")
    shelf.indexed.quarantine("p2", code="infected", reason="bad", at=AT)
    lost = StoredCatalogue(shelf.store, "db", index=InMemoryState())

    holdings = shelf.plain.holdings()
    assert lost.index_from(holdings, dry_run=True)["added"] == ["p1", "p2"]
    assert lost.indexed() == {}
    agrees = {"without_manifest": [], "differing": [], "unreadable": {}}
    assert lost.index_from(holdings) == {"added": ["p1", "p2"]} | agrees
    assert lost.index_from(holdings) == {"added": []} | agrees
    assert lost.indexed() == shelf.indexed.indexed()
    assert lost.holdings() == shelf.indexed.holdings()


def test_a_point_that_nobody_entered_into_the_index_is_unknown(shelf: Shelf) -> None:
    """Whoever may write to the backups could put one there, and have it restored."""
    known = shelf.add("20261121T000000Z-full")
    forged = shelf.add("20261122T000000Z-full", entered=False)
    found = shelf.indexed.inventory()
    assert found.points == (known,)
    [(refused, code)] = [(it.point_id, it.code) for it in found.rejected]
    assert (refused, code) == (forged.id, "quarantined")
    with pytest.raises(Quarantined, match="nobody entered it into the index"):
        choose_points(found.holdings, "full", point_id=forged.id)
    assert choose_points(found.holdings, "full") == (known,)
    assert [it.point for it in shelf.plain.holdings().standings] == [known, forged]
    shelf.indexed.index_from(shelf.plain.holdings(), only=[forged.id])
    assert shelf.indexed.inventory().points == (known, forged)


def test_an_unknown_point_takes_no_other_s_place(shelf: Shelf) -> None:
    """Nor is it removed: what it is, a person must find out."""
    known = shelf.add("20261121T000000Z-full")
    shelf.indexed.note_proof(known.id, PROOF)
    for number in range(2, 9):
        forged = shelf.add(f"2026112{number}T000000Z-full", entered=False)
        shelf.plain.note_proof(forged.id, PROOF)
    standings = shelf.indexed.holdings().standings
    decision = decide_retention(standings, Retention(daily=1), now=AT + timedelta(days=400))
    assert decision.prune == ()
    assert "newest-proven" in {
        reason.rule for it in decision.keep if it.standing.point == known for reason in it.reasons
    }


def test_one_that_is_unknown_is_copied_nowhere_and_restored_from_nowhere(shelf: Shelf) -> None:
    """Its copy elsewhere, where no index is, is the same."""
    known = shelf.add("20261121T000000Z-full")
    forged = shelf.add("20261122T000000Z-full", entered=False)
    held = shelf.indexed.inventory()
    decision = decide_copies(held.holdings, shelf.store.list(), [])
    assert not [key for key in map(str, decision.points) if forged.id in key]
    assert [key for key in map(str, decision.points) if known.id in key]
    elsewhere = shelf.plain.holdings()
    candidates = (
        Candidate("primary", 0, error=Unavailable("no answer", hint="")),
        Candidate("gcs", 2, elsewhere),
        Candidate("here", 0, held.holdings, primary=True),
    )
    choice = choose_copy(candidates, RecoveryTarget("end", ""))
    assert choice.point_id == known.id


def test_an_entry_without_a_manifest_is_kept_and_named(shelf: Shelf) -> None:
    shelf.add("p1")
    shelf.store.delete("points/p1/manifest.json")
    found = shelf.indexed.index_from(shelf.plain.holdings())
    assert (found["added"], found["without_manifest"]) == ([], ["p1"])
    assert shelf.rejected() == [("p1", "object-missing")]


def test_a_manifest_that_the_index_contradicts_is_named_and_not_taken_in(shelf: Shelf) -> None:
    """Rewritten in place, with a digest that agrees with itself; and one that is none."""
    for name in ("p1", "p2", "p3"):
        shelf.add(name)
    recorded = shelf.indexed.indexed()
    [point] = [it.point for it in shelf.plain.holdings().standings if it.point.id == "p1"]
    another = write_manifest(dataclasses.replace(point, note="another"))
    shelf.store.put("points/p1/manifest.json", another)
    shelf.store.put("points/p2/manifest.json", b"{}")
    found = shelf.indexed.index_from(shelf.plain.holdings())
    assert (found["added"], found["without_manifest"]) == ([], [])
    assert (found["differing"], list(found["unreadable"])) == (["p1"], ["p2"])
    assert shelf.indexed.indexed() == recorded


def test_an_entry_that_only_says_quarantined_is_completed(shelf: Shelf) -> None:
    shelf.add("p1")
    other = StoredCatalogue(shelf.store, "db", index=InMemoryState())
    other.quarantine("p1", code="infected", reason="bad", at=AT)
    shelf.store.delete("points/p1/quarantine.json")
    assert other.index_from(shelf.plain.holdings())["added"] == ["p1"]
    assert other.indexed() == shelf.indexed.indexed()
    [standing] = other.holdings().standings
    assert standing.quarantined == "bad"
