"""What a deletion took, decided; and objects brought back, against a model of S3's versions."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.errors import CheckFailed
from chalicelib.recover.bucket.apply import apply_undo
from chalicelib.recover.bucket.deleted_objects import survey_deleted, verify_undelete
from chalicelib.recover.bucket.fill import fill_bucket
from chalicelib.recover.bucket.survey import survey_undo
from chalicelib.recover.bucket.undo import UndoRules
from chalicelib.recover.bucket.witness import Vanished
from chalicelib.recover.database.changes import Transaction
from chalicelib.recover.database.relations import Relations
from chalicelib.recover.database.suspects import Suspect
from chalicelib.recover.deletion_scope import (
    Burst,
    DeletedRows,
    decide_burst,
    decide_rows,
    deletions_of,
    find_bursts,
    largest,
)
from tests.fakes_versions import START, VersionedBucket, second

RULES = UndoRules(second(9), undelete_until=second(12))


def undelete(bucket: VersionedBucket, rules: UndoRules = RULES) -> tuple[int, bool]:
    async def run() -> tuple[int, bool]:
        plan = await survey_undo(bucket, rules)
        outcome = await apply_undo(bucket, rules, plan=plan)
        assert outcome.ok
        return outcome.counts.get("unmarked", 0), (await verify_undelete(bucket, rules)).ok

    return asyncio.run(run())


def test_what_was_deleted_comes_back_and_everything_else_stays() -> None:
    bucket = VersionedBucket()
    for key in ("before", "kept", "again", "twice", "later", "other"):
        bucket.write(key, key.encode())
    bucket.now = second(5)
    bucket.remove("before")
    bucket.now = second(10)
    bucket.write("twice", b"written in between")
    bucket.write("new", b"new")
    for key in ("again", "twice", "twice", "other"):
        bucket.remove(key)
    bucket.now = second(14)
    bucket.remove("later")
    bucket.write("again", b"made again")
    bucket.write("kept", b"written over")
    versions = bucket.version_ids()
    assert undelete(bucket) == (2, True)
    assert bucket.state() == {
        "kept": b"written over", "again": b"made again", "twice": b"written in between",
        "new": b"new", "other": b"other",
    }  # fmt: skip
    assert bucket.version_ids() == versions
    assert undelete(bucket) == (0, True)


def test_a_marker_that_stays_is_no_proof() -> None:
    bucket = VersionedBucket()
    bucket.write("a", b"a")
    bucket.now = second(10)
    bucket.remove("a")
    proof = asyncio.run(verify_undelete(bucket, RULES))
    assert (proof.ok, proof.differing, proof.differences[0].key) == (False, 1, "a")


acts = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("wr"), st.integers(0, 3)))


@settings(max_examples=150, deadline=None)
@given(acts)
def test_it_is_as_if_nobody_had_deleted(course: list[tuple[str, str, int]]) -> None:
    """Against a bucket in which the deletions of that time never happened and nothing followed."""
    bucket, model = VersionedBucket(), dict[str, bytes]()
    for number, (key, act, pause) in enumerate(course):
        bucket.now += timedelta(seconds=pause)
        if act == "w":
            bucket.write(key, str(number).encode())
            model[key] = str(number).encode()
        elif key in bucket.versions:
            bucket.remove(key)
            if bucket.now < second(10):
                model.pop(key, None)
    rules = UndoRules(second(9), undelete_until=bucket.now)
    assert undelete(bucket, rules)[1]
    assert bucket.state() == model


def test_what_has_no_version_left_is_found_in_the_replica() -> None:
    bucket, replica = VersionedBucket(), VersionedBucket("replica")
    for key in ("a", "b", "c", "z"):
        bucket.write(key, b"1")
        replica.write(key, b"1")
    del bucket.versions["a"], bucket.versions["z"]
    bucket.now = second(11)
    bucket.remove("b")
    gone = asyncio.run(survey_deleted(bucket, replica, second(9)))
    assert (gone.removed, gone.removed_bytes, gone.removed_keys) == (2, 2, ["a", "z"])
    assert (gone.deleted, gone.living) == (Counter({second(11): 1}), 1)
    assert asyncio.run(survey_deleted(bucket, None, second(9))).removed is None


def test_a_recovery_bucket_is_filled_from_the_bucket_and_its_replica() -> None:
    bucket = VersionedBucket()
    replica = VersionedBucket("replica", bucket.world)
    target = VersionedBucket("target", bucket.world)
    for key in ("gone", "kept", "changed", "deleted"):
        bucket.write(key, b"1")
        replica.write(key, b"1")
    bucket.now = second(5)
    del bucket.versions["gone"]
    bucket.remove("deleted")
    bucket.write("changed", b"2")
    bucket.write("new", b"3")
    bucket.now = second(20)
    replica.write("gone", b"encrypted")
    filled = asyncio.run(fill_bucket(bucket, replica, target, second(10)))
    assert (filled.ok, filled.objects, filled.from_replica) == (True, 4, 1)
    assert target.state() == {"gone": b"1", "kept": b"1", "changed": b"2", "new": b"3"}
    # Again, after somebody wrote: what is there stays, what is newer follows.
    bucket.now = second(30)
    bucket.write("new", b"33")
    again = asyncio.run(fill_bucket(bucket, replica, target, second(10)))
    assert again.ok
    assert again.outcome.counts == {"same": 3, "copied": 1}
    target.write("foreign", b"x")
    assert not asyncio.run(fill_bucket(bucket, replica, target, second(10))).ok


def test_a_bucket_is_filled_with_what_vanished_and_not_with_the_version_below_it() -> None:
    bucket = VersionedBucket()
    replica = VersionedBucket("replica", bucket.world)
    target = VersionedBucket("target", bucket.world)
    for data in (b"1", b"22"):
        for key in ("older", "rewritten", "deleted", "lost"):
            bucket.write(key, data)
            replica.write(key, data)
        bucket.now += timedelta(seconds=2)
    vanished = []
    for key in ("older", "rewritten", "deleted", "lost"):
        facts = bucket.versions[key].pop(0).facts
        copy = replica.versions[key][0].facts.version_id if key != "lost" else ""
        vanished.append(Vanished(key, facts.version_id, facts.modified_at, 2, "p", copy))
    bucket.now = second(30)
    bucket.write("rewritten", b"333")
    bucket.remove("deleted")
    filled = asyncio.run(fill_bucket(bucket, replica, target, second(10), vanished))
    assert (filled.ok, filled.objects, filled.from_replica) == (True, 3, 2)
    assert target.state() == {"older": b"22", "rewritten": b"333", "lost": b"22"}
    del replica.versions["older"]
    del target.versions["older"]
    assert not asyncio.run(fill_bucket(bucket, replica, target, second(10), vanished)).ok


def test_an_undelete_leaves_aside_what_would_come_back_as_something_older() -> None:
    bucket = VersionedBucket()
    bucket.write("vanished", b"1")
    bucket.write("deleted", b"1")
    bucket.now = second(10)
    bucket.remove("vanished")
    bucket.remove("deleted")
    bucket.now = second(20)
    rules = replace(RULES, aside=frozenset({"vanished"}))
    assert undelete(bucket, rules) == (1, True)
    assert bucket.state() == {"deleted": b"1"}


def burst(start: int, objects: int, seconds: int = 0) -> Burst:
    return Burst(second(start), second(start + seconds), objects)


def test_deletions_close_together_are_one_burst() -> None:
    found = find_bursts(Counter({second(0): 2, second(60): 3, second(1000): 9, second(170): 1}))
    assert found == (burst(1000, 9), burst(0, 6, 170))


@pytest.mark.parametrize(
    ("bursts", "since", "expected"),
    [
        ((), None, None),
        ((burst(0, 19),), None, None),
        ((burst(0, 20),), None, burst(0, 20)),
        ((burst(0, 100), burst(900, 21)), None, None),
        ((burst(0, 100), burst(900, 20)), None, burst(0, 100)),
        ((burst(0, 100), burst(900, 2)), second(500), burst(900, 2)),
        ((burst(0, 100), burst(900, 2)), second(0), Burst(second(0), second(900), 102)),
        ((burst(0, 100),), second(500), None),
    ],
)
def test_a_burst_must_stand_out_or_be_named(
    bursts: tuple[Burst, ...], since: datetime | None, expected: Burst | None
) -> None:
    assert decide_burst(bursts, since=since) == expected


def deleted(xid: int, rows: int, lost: tuple[str, ...] = ()) -> DeletedRows:
    return DeletedRows(xid, xid * 10, second(xid), {"public.t": rows} if rows else {}, lost)


def suspect(xid: int, *, kind: str = "mass-delete", strong: bool = True) -> Suspect:
    return Suspect(kind, xid, xid * 10, second(xid), ("public.t",), 900, 900.0, strong, "deleted")


def chosen(
    found: list[DeletedRows],
    *suspects: Suspect,
    named: int = 0,
    since: datetime | None = None,
) -> list[int | None]:
    damages = decide_rows(
        largest(found), suspects, named=frozenset({named} if named else ()), since=since,
        timeline=1, now=START,
    )  # fmt: skip
    return [damage.xid for damage in damages]


def test_the_transaction_that_stands_out_is_chosen() -> None:
    assert chosen([deleted(5, 3), deleted(6, 900)], suspect(6)) == [6]
    assert chosen([deleted(5, 3), deleted(6, 0, ("public.t",))], suspect(6, kind="drop")) == [6]
    assert chosen([deleted(5, 900), deleted(6, 900)], suspect(6), suspect(5)) == [6, 5]


def test_transactions_of_one_hand_go_together_and_others_do_not() -> None:
    found = [deleted(5, 900), deleted(6, 800), deleted(900, 900)]
    assert chosen(found, suspect(6), suspect(900), suspect(5)) == [6, 5]
    assert chosen(found, suspect(900), suspect(6)) == [900]


@pytest.mark.parametrize("named", [0, 7])
def test_rows_of_a_dropped_database_are_no_deletion(named: int) -> None:
    """The oid of another database that was dropped says nothing."""
    relations = Relations(5)
    dropped = [Transaction(xid, xid * 10, second(xid), {}, dropped_databases=(oid,))
               for xid, oid in ((7, 5), (8, 6))]  # fmt: skip
    [found] = deletions_of(dropped, relations)
    assert (found.xid, found.lost) == (7, ("the whole database",))
    many = [deleted(xid, 5, ("public.t",)) for xid in range(100, 130)]
    with pytest.raises(CheckFailed) as error:
        chosen([*many, found], suspect(7, kind="drop"), named=named)
    assert error.value.instance_code == "database-dropped"
    assert "transaction 7" in error.value.message


def test_nothing_that_stands_out_is_nothing() -> None:
    assert chosen([]) == []
    assert chosen([deleted(5, 3), deleted(6, 4)]) == []
    assert chosen([deleted(6, 30)], suspect(6, strong=False)) == []
    assert chosen([deleted(6, 30)], suspect(9, kind="mass-update")) == []


def test_a_person_s_word_decides() -> None:
    assert chosen([deleted(5, 3), deleted(6, 900)], suspect(6), named=5) == [5]
    assert chosen([deleted(5, 3)], since=second(2)) == [5]
    assert chosen([], since=second(2)) == []


@pytest.mark.parametrize(("named", "since"), [(7, None), (0, second(2))])
def test_what_is_not_clear_is_said_with_what_it_may_be(named: int, since: datetime | None) -> None:
    with pytest.raises(CheckFailed) as error:
        chosen([deleted(5, 3), deleted(6, 4)], named=named, since=since)
    assert error.value.instance_code == "deletion-not-clear"
    if not named:
        assert [it["xid"] for it in error.value.context["alternatives"]] == [6, 5]
