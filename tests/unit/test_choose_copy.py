"""Which copy a restore uses: what is asked for first, then the proof, then the distance."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from chalicelib.adapters.catalogue import StoredCatalogue
from chalicelib.errors import LeewardError, NotReady, Unavailable
from chalicelib.plan.records import (
    CheckResult,
    DatabasePoint,
    Proof,
    RecoveryPoint,
    RecoveryTarget,
)
from chalicelib.ports import Holdings, RejectedPoint
from chalicelib.recover.choose_copy import Candidate, choose_copy
from tests.fakes import InMemoryObjectStore

AT = datetime(2026, 11, 22, 8, 45, tzinfo=UTC)
END = RecoveryTarget("end", "")
SEGMENT = "wal/00000001/0000000100000000000000{:02X}.zst"


def database(
    location: str, distance: int, *, segments: int = 3, proven: bool = False, points: int = 1
) -> Candidate:
    store = InMemoryObjectStore()
    catalogue = StoredCatalogue(store, "db")
    for number in range(1, segments + 1):
        store.put(SEGMENT.format(number), b"wal")
    for number in range(1, points + 1):
        point_id = f"2026112{number}T080000Z-full"
        stored = store.put(f"points/{point_id}/base.tar.zst", b"data")
        catalogue.add(
            DatabasePoint(
                id=point_id,
                component="db",
                kind="full",
                taken_at=AT,
                finished_at=AT,
                objects=(stored,),
                source_bytes=4,
                encryption="none",
                system_id="1",
                server_version=170010,
                timeline=1,
                start_lsn=0x1000028,
                end_lsn=0x1000100,
            )  # fmt: skip
        )
        if proven:
            catalogue.note_proof(point_id, proof_of(point_id))
    return Candidate(location, distance, catalogue.holdings(), catalogue.inventory())


def proof_of(point_id: str) -> Proof:
    passed = (CheckResult("amcheck", True, "clean"),)
    return Proof(component="db", point_id=point_id, proven_at=AT, target=END, recovered_lsn=2,
                 last_commit_at=None, checks=passed)  # fmt: skip


def dead(location: str, distance: int = 0) -> Candidate:
    return Candidate(location, distance, error=Unavailable("no answer", hint="wait"))


def test_the_nearest_of_equal_copies_is_taken() -> None:
    choice = choose_copy((database("far", 2), database("near", 0), database("between", 1)), END)
    assert choice.location == "near"
    assert dict(choice.others)["far"].endswith("it is farther")
    assert "in the region of the restore" in choice.why


def test_a_proven_copy_is_preferred_to_a_nearer_one() -> None:
    choice = choose_copy((database("near", 0), database("far", 2, proven=True)), END)
    assert (choice.location, choice.proven_at) == ("far", AT)
    assert dict(choice.others)["near"].endswith("its point is not proven")


def test_a_copy_with_more_data_is_preferred_to_a_proven_one() -> None:
    near = database("near", 0, segments=1, proven=True)
    choice = choose_copy((near, database("far", 2, segments=3)), END)
    assert choice.location == "far"
    assert dict(choice.others)["near"].endswith("it ends earlier")


def test_a_copy_that_lacks_nothing_of_an_earlier_moment_is_as_good() -> None:
    target = RecoveryTarget("lsn", "0/1800000", lsn=0x1800000)
    near, far = database("near", 0, segments=1), database("far", 2, segments=3)
    assert choose_copy((near, far), target).location == "near"


def test_one_that_answers_is_enough() -> None:
    choice = choose_copy((dead("primary"), database("tertiary", 2), dead("secondary", 1)), END)
    assert choice.location == "tertiary"
    assert dict(choice.others)["primary"] == "unavailable: no answer"


@pytest.mark.parametrize(
    ("candidates", "code"),
    [
        ((dead("primary"), dead("secondary")), "no-copy-answers"),
        ((dead("primary"), database("secondary", 1, points=0)), "no-copy-fits"),
    ],
)
def test_nothing_to_restore_from_is_told_for_each_location(
    candidates: tuple[Candidate, ...], code: str
) -> None:
    with pytest.raises(LeewardError) as caught:
        choose_copy(candidates, END)
    assert caught.value.instance_code == code
    assert all(candidate.location in caught.value.message for candidate in candidates)
    assert isinstance(caught.value, NotReady) == (code == "no-copy-answers")


def test_without_wal_the_newest_point_until_the_moment_is_taken() -> None:
    store = InMemoryObjectStore()
    catalogue = StoredCatalogue(store, "uploads")
    for day in (1, 2, 3):
        at = AT + timedelta(days=day)
        stored = store.put(f"points/p{day}/files.tar.zst", b"x")
        catalogue.add(
            RecoveryPoint(id=f"p{day}", component="uploads", kind="archive", taken_at=at,
                          finished_at=at, objects=(stored,), source_bytes=1, encryption="none")
        )  # fmt: skip
    catalogue.quarantine("p2", code="infected", reason="bad", at=AT)
    candidate = Candidate("primary", 0, catalogue.holdings())

    assert choose_copy((candidate,), END).point_id == "p3"
    moment = RecoveryTarget("time", "2026-11-24T12:00:00Z")
    assert choose_copy((candidate,), moment).point_id == "p1"


def infected(candidate_points: int, *, code: str) -> tuple[Candidate, Candidate]:
    """A primary location that has just quarantined all it holds, and a copy without the notes."""
    primary = database("primary", 0, points=candidate_points)
    assert primary.holdings is not None
    assert primary.inventory is not None
    ids = [it.point.id for it in primary.holdings.standings]
    standings = tuple(
        replace(it, quarantined="encrypted by somebody", quarantine_code=code)
        for it in primary.holdings.standings
    )
    refused = tuple(RejectedPoint(it, "quarantined", "encrypted by somebody") for it in ids)
    inventory = replace(primary.inventory, points=(), rejected=refused, windows=())
    primary = replace(primary, holdings=Holdings(standings, ()), inventory=inventory, primary=True)
    return primary, database("copy", 2, points=candidate_points)


def test_a_copy_that_does_not_know_yet_that_its_points_are_infected_is_not_restored_from() -> None:
    with pytest.raises(LeewardError) as caught:
        choose_copy(infected(1, code="infected"), END)
    assert caught.value.instance_code == "no-copy-fits"
    assert "encrypted by somebody" in caught.value.message


def test_what_is_only_damaged_in_the_primary_location_is_restored_from_a_copy() -> None:
    assert choose_copy(infected(1, code="digest-mismatch"), END).location == "copy"


def test_of_what_has_no_wal_an_older_point_is_taken_and_the_infected_one_is_named() -> None:
    candidates = []
    for name, distance in (("primary", 0), ("copy", 2)):
        catalogue = StoredCatalogue(store := InMemoryObjectStore(), "uploads")
        for day in (1, 2):
            stored = store.put(f"points/p{day}/files.tar.zst", b"x")
            at = AT + timedelta(days=day)
            catalogue.add(
                RecoveryPoint(id=f"p{day}", component="uploads", kind="archive", taken_at=at,
                              finished_at=at, objects=(stored,), source_bytes=1, encryption="none")
            )  # fmt: skip
        if name == "primary":
            catalogue.quarantine("p2", code="infected", reason="bad", at=AT)
        candidates.append(
            Candidate(name, distance, catalogue.holdings(), primary=name == "primary")
        )

    choice = choose_copy(tuple(candidates), END)
    assert (choice.location, choice.point_id) == ("primary", "p1")
    assert choice.quarantined == (("p2", "bad"),)
    opened = StoredCatalogue(store, "uploads", quarantined=dict(choice.quarantined))
    assert [it.point.id for it in opened.holdings().standings if it.quarantined] == ["p2"]
