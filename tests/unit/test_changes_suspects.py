"""Which transactions are suspect, which are routine, and which moment is meant."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.errors import BadInput, NotReady
from chalicelib.plan.components import DamageKind, DamageThresholds, ExpectedChange
from chalicelib.plan.records import RecoveryTarget, Window, format_lsn
from chalicelib.plan.wal import WalInventory, WalObject
from chalicelib.ports import Fault
from chalicelib.recover.database.bisect import bisect_states
from chalicelib.recover.database.changes import Activity, CreatedFile, Relfile, Rows, Transaction
from chalicelib.recover.database.find import Search, find_damage
from chalicelib.recover.database.relations import Relation, Relations, gather_relations
from chalicelib.recover.database.set_aside import is_after, tell_beyond
from chalicelib.recover.database.suspects import decide_suspects
from chalicelib.recover.moment import parse_moment, place_target

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
TABLE, NEW, OTHER = Relfile(5, 16384), Relfile(5, 16500), Relfile(5, 16700)
THRESHOLDS = DamageThresholds(rows=1000, times_usual=20)


def transaction(xid: int, *, minute: int = 0, **more: Any) -> Transaction:
    fields = {"rows": {}} | more
    return Transaction(xid, xid * 100, NOON + timedelta(minutes=minute), **fields)


def relations(*, alive: bool = True, rows: int | None = 50_000) -> Relations:
    found = Relations(5)
    found.learn({16384: Relation("public.projects", "r", rows=rows)})
    found.learn({16500: Relation("public.projects", "r")} if alive else {1: Relation("x", "r")})
    return found


def judge(*notable: Transaction, usual: int = 1, **more: Any) -> tuple[Any, ...]:
    activity = Activity({TABLE: Counter({usual: 500})}, list(notable), 500 + len(notable))
    known = more.pop("known", None) or relations()
    thresholds = more.pop("thresholds", THRESHOLDS)
    return decide_suspects(activity, known, thresholds, **more)


def deleting(xid: int, count: int, *, minute: int = 0, file: Relfile = TABLE) -> Transaction:
    return transaction(xid, minute=minute, rows={file: Rows(deleted=count)})


def expecting(*tables: str, kind: DamageKind = "mass-delete") -> DamageThresholds:
    change = ExpectedChange(tables=tables, kinds=(kind,))
    return DamageThresholds(rows=1000, expected=(change,))


@pytest.mark.parametrize(
    ("thresholds", "strong"),
    [
        (expecting("projects"), False),
        (expecting("public.proj*"), False),
        (expecting("other", "*.projects"), False),
        (expecting("project"), True),
        (expecting("audit.projects"), True),
        (expecting("projects", kind="drop"), True),
    ],
)
def test_what_the_plan_expects_starts_nothing(thresholds: DamageThresholds, strong: bool) -> None:
    [suspect] = judge(deleting(700, 5000), thresholds=thresholds)
    assert suspect.strong is strong
    assert suspect.why.endswith("which the plan expects") is not strong


@pytest.mark.parametrize(("count", "strong"), [(6000, False), (6001, True)])
def test_more_than_the_plan_expects_is_not_expected(count: int, strong: bool) -> None:
    change = ExpectedChange(tables=("projects",), kinds=("mass-delete",), rows=6000)
    [suspect] = judge(deleting(700, count), thresholds=DamageThresholds(expected=(change,)))
    assert suspect.strong is strong


def test_a_purge_by_night_makes_no_update_of_every_row_routine() -> None:
    purges = [deleting(100 + minute, 5000, minute=minute) for minute in range(4)]
    update = transaction(700, minute=9, rows={TABLE: Rows(updated=6000)})
    [suspect] = judge(*purges, update, since=NOON + timedelta(minutes=5))
    assert (suspect.kind, suspect.xid, suspect.strong) == ("mass-update", 700, True)


def test_beside_what_is_expected_another_loss_counts() -> None:
    known = relations()
    known.learn({16700: Relation("public.orders", "r", rows=50_000)})
    both = transaction(700, rows={TABLE: Rows(deleted=9000), OTHER: Rows(deleted=5000)})
    [suspect] = judge(both, known=known, thresholds=expecting("projects"))
    assert suspect.strong
    assert suspect.tables == ("public.orders", "public.projects")


def test_a_lost_database_is_never_expected() -> None:
    dropped = transaction(700, dropped_databases=[5])
    [suspect] = judge(dropped, thresholds=expecting("*", kind="drop"))
    assert suspect.strong


def test_far_more_than_the_neighbours() -> None:
    [suspect] = judge(deleting(700, 5000))
    assert (suspect.kind, suspect.rows, suspect.strong) == ("mass-delete", 5000, True)
    assert suspect.why == "deleted 5,000 rows of public.projects at once, where 1 is usual"


@pytest.mark.parametrize(("count", "usual"), [(999, 1), (5000, 251)])
def test_too_few_or_too_usual(count: int, usual: int) -> None:
    assert judge(deleting(700, count), usual=usual) == ()


def test_inserts_alone_damage_nothing() -> None:
    assert judge(transaction(700, rows={TABLE: Rows(inserted=10**6)})) == ()


def test_another_database_is_another_story() -> None:
    assert judge(deleting(700, 5000, file=Relfile(6, 16384))) == ()


def test_catalogues_toast_and_views_do_not_count() -> None:
    known = relations()
    known.learn({
        16600: Relation("pg_toast.pg_toast_16384", "t", parent="public.projects"),
        16700: Relation("public.totals", "m"),
        16800: Relation("pg_catalog.pg_largeobject", "r"),
    })  # fmt: skip
    files = (Relfile(5, number) for number in (1259, 16600, 16700, 16800))
    assert judge(*(deleting(700, 5000, file=file) for file in files), known=known) == ()


@pytest.mark.parametrize("number", [2995, 16900])
def test_large_objects_count_by_their_list(number: int) -> None:
    """Which has another number once somebody rewrote it with VACUUM FULL."""
    known = relations()
    known.learn({number: Relation("pg_catalog.pg_largeobject_metadata", "r", rows=9000)})
    [suspect] = judge(deleting(700, 5000, file=Relfile(5, number)), known=known)
    assert (suspect.kind, suspect.rows, suspect.strong) == ("mass-delete", 5000, True)
    given_away = transaction(700, rows={Relfile(5, number): Rows(updated=5000)})
    assert judge(given_away, known=known) == ()


def test_a_dropped_view_that_can_be_computed_again_is_for_people_to_judge() -> None:
    known = relations()
    known.learn({16500: Relation("public.totals", "m", rows=40_000)})
    gone = transaction(700, dropped=((NEW, "base"),))
    [suspect] = judge(gone, known=known)
    assert (suspect.kind, suspect.tables, suspect.strong) == ("drop", ("public.totals",), False)
    refreshed = replace(gone, created=(new(transient=True, file=OTHER),))
    assert judge(refreshed, known=known) == ()


def test_what_was_done_when_all_was_well_is_routine() -> None:
    purge = [deleting(100 + minute, 5000, minute=minute) for minute in (0, 10)]
    [suspect] = judge(*purge, since=NOON + timedelta(minutes=5))
    assert (suspect.xid, suspect.strong) == (110, False)


def test_the_first_of_the_like_comes_first() -> None:
    found = judge(deleting(701, 9000, minute=2), deleting(700, 5000, minute=1))
    assert [suspect.xid for suspect in found] == [700, 701]


def test_a_small_one_before_a_large_one_stays_behind_it() -> None:
    found = judge(deleting(701, 50_000, minute=2), deleting(700, 1500, minute=1))
    assert [suspect.xid for suspect in found] == [701, 700]


class SoundServer:
    """The port Inspector of a server with nothing wrong in its files."""

    def missing_files(self, database: str = "") -> tuple[Fault, ...]:
        return ()

    def failed_checksums(self, since: datetime | None = None) -> tuple[Fault, ...]:
        return ()


def test_what_stays_behind_is_told_with_what_was_found() -> None:
    made = [deleting(701, 50_000, minute=2), deleting(700, 1500, minute=1), deleting(702, 1500)]
    search = Search(
        activity=Activity({TABLE: Counter({1: 500})}, made, 503),
        relations=relations(),
        inspector=cast(Any, SoundServer()),
        thresholds=THRESHOLDS,
        timeline=1,
        now=NOON + timedelta(hours=1),
    )
    damage = find_damage(search)
    assert damage.xid == 701
    assert damage.found.endswith(
        ". KEPT, though suspect: transaction 700 deleted 1,500 rows of public.projects at once, "
        "where 1 is usual"
    )


def replacing(*created: CreatedFile, tablespace: str = "base", copied: int = 0) -> Transaction:
    rows = {NEW: Rows(inserted=copied)} if copied else {}
    return transaction(700, rows=rows, created=created, dropped=((TABLE, tablespace),))


def new(*, transient: bool, tablespace: str = "base", file: Relfile = NEW) -> CreatedFile:
    return CreatedFile(file, tablespace, transient)


@pytest.mark.parametrize(
    ("made", "kinds"),
    [
        (replacing(new(transient=False)), ["truncate"]),
        (replacing(new(transient=True), copied=900), ["rewrite"]),
        (replacing(new(transient=True)), []),  # VACUUM FULL, CLUSTER
        (replacing(new(transient=False, tablespace="pg_tblspc/1/PG_17")), []),  # SET TABLESPACE
        (replacing(), ["drop"]),
        (replacing(new(transient=True, file=OTHER), copied=0), []),  # replaced again since
    ],
)
def test_a_file_that_went(made: Transaction, kinds: list[str]) -> None:
    assert [suspect.kind for suspect in judge(made)] == kinds


def test_a_dropped_table_is_dropped_whatever_was_created_beside_it() -> None:
    made = replacing(new(transient=True, file=OTHER))
    [suspect] = judge(made, known=relations(alive=False))
    assert (suspect.kind, suspect.rows) == ("drop", 50_000)


def test_an_empty_table_is_no_loss_and_an_unknown_one_may_be() -> None:
    [empty] = judge(replacing(), known=relations(rows=0))
    assert not empty.strong
    [unknown] = judge(replacing(), known=relations(rows=None))
    assert unknown.strong
    assert "unknown number" in unknown.why


def test_the_whole_database() -> None:
    [suspect] = judge(transaction(700, dropped_databases=(5,)))
    assert (suspect.kind, suspect.tables) == ("drop", ("the whole database",))
    assert suspect.why == "dropped the whole database (50000 rows)"


def test_a_database_that_was_made_again_and_none_that_is_another() -> None:
    known = gather_relations(
        "nexus", [{"databases": {}, "oids": {"nexus": 5, "other": 6}}], (9, {})
    )
    assert judge(transaction(700, dropped_databases=(6,)), known=known) == ()
    [suspect] = judge(transaction(701, dropped_databases=(5,)), known=known)
    assert suspect.strong


def test_what_a_database_was_called_before_is_another_once_it_is_renamed() -> None:
    swapped = [{"oids": {"nexus": 5, "next": 6}}, {"oids": {"nexus_old": 5, "nexus": 6}}]
    known = gather_relations("nexus", [{"databases": {}} | it for it in swapped], None)
    assert known.oids == {6}


def test_a_database_that_no_map_knows_is_gone() -> None:
    with pytest.raises(NotReady) as raised:
        gather_relations("nexus", [{"databases": {"nexus": {}}}], None)
    assert raised.value.instance_code == "database-gone"


def test_the_moment_before_a_database_was_dropped() -> None:
    """Its commit comes after its files are gone."""
    drop = transaction(700, dropped_databases=(5,), drop_lsn=69_000)
    [suspect] = judge(drop)
    assert suspect.drop_lsn == 69_000
    placed = place_target(RecoveryTarget("xid", "700", timeline=3), [drop])
    assert placed == RecoveryTarget("lsn", format_lsn(69_000), 69_000, 3)


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("742", "xid", "742"),
        ("xid 742", "xid", "742"),
        ("0/16b3748", "lsn", "0/16B3748"),
        ("lsn 2A/0", "lsn", "2A/0"),
        ("2026-11-22T10:30:00+02:00", "time", "2026-11-22T08:30:00.000000Z"),
        ("2026-11-22 08:30:00Z", "time", "2026-11-22T08:30:00.000000Z"),
        ("end", "end", ""),
    ],
)
def test_a_moment_in_a_persons_words(text: str, kind: str, value: str) -> None:
    target = parse_moment(text, timeline=3, now=NOON)
    assert (target.kind, target.value, target.timeline) == (kind, value, 3)


@pytest.mark.parametrize("text", ["2", "-5", "xid", "0/", "G/1", "noon", "2026-11-22T08:30:00",
                                  "2026-11-22T12:00:01Z", "lsn 742", ""])  # fmt: skip
def test_no_moment(text: str) -> None:
    with pytest.raises(BadInput) as raised:
        parse_moment(text, timeline=1, now=NOON)
    assert raised.value.instance_code == "bad-moment"


@given(st.integers(0, 2**64 - 1))
def test_every_lsn_can_be_named(lsn: int) -> None:
    assert parse_moment(format_lsn(lsn), timeline=1, now=NOON).lsn == lsn


def test_an_xid_is_placed_by_its_commit() -> None:
    target = RecoveryTarget("xid", "700")
    assert place_target(target, [deleting(700, 1)]).lsn == 70_000
    with pytest.raises(BadInput):
        place_target(target, [deleting(701, 1)])


@given(st.integers(1, 300), st.data())
def test_bisection_finds_the_step_in_few_restores(count: int, data: st.DataObject) -> None:
    wrong = data.draw(st.integers(0, count - 1))
    asked: list[int] = []

    def is_sound_before(step: int) -> bool:
        asked.append(step)
        return step <= wrong

    assert bisect_states(range(count), is_sound_before) == wrong
    assert len(asked) <= count.bit_length()


@pytest.mark.parametrize(
    ("likely", "wrong", "times"),
    [([700], 700, 2), ([999], 999, 1), ([0], 0, 1), ([3, 700], 700, 4), ([3, 999], 412, 13)],
)
def test_a_right_guess_is_asked_about_twice(likely: list[int], wrong: int, times: int) -> None:
    asked = []

    def is_sound_before(step: int) -> bool:
        asked.append(step)
        return step <= wrong

    assert bisect_states(range(1000), is_sound_before, likely=likely) == wrong
    assert len(asked) <= times


def test_what_comes_after_a_target() -> None:
    before, bad, after = (deleting(xid, 1, minute=xid - 700) for xid in (699, 700, 701))
    at = bad.committed_at.isoformat()
    targets = {
        RecoveryTarget("xid", "700", bad.commit_lsn): [after],
        RecoveryTarget("lsn", "", bad.commit_lsn): [bad, after],
        RecoveryTarget("time", at): [bad, after],
        RecoveryTarget("end", ""): [],
    }
    for target, expected in targets.items():
        assert [it for it in (before, bad, after) if is_after(target)(it)] == expected


def stored(timeline: int, start_lsn: int, end_lsn: int) -> WalObject:
    return WalObject("", "", timeline, start_lsn, end_lsn, False, NOON)


@pytest.mark.parametrize(
    ("later", "told"),
    [
        ((), ""),
        ((stored(1, 0x300, 0x400),), "0/400 of timeline 1"),
        ((stored(2, 0x180, 0x1C0),), "0/1C0 of timeline 2"),
    ],
)
def test_wal_that_was_not_set_aside_is_told(later: tuple[WalObject, ...], told: str) -> None:
    """After a gap, and after a promotion."""
    wal = WalInventory((stored(1, 0, 0x100), stored(1, 0x100, 0x200), *later), {})
    found = tell_beyond(wal, Window(1, 0x80, 0x200, NOON, NOON))
    assert found == (
        told
        and f"NOT KEPT: what was committed between 0/200 of timeline 1 and {told}, "
        "after a gap or a promotion"
    )
