"""What stored WAL covers, and which recovery points lead to a moment: pure arithmetic."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.backup.base_backup import choose_parent
from chalicelib.backup.wal_fetch import slot_name
from chalicelib.errors import BadInput, Damaged, OutsideWindow
from chalicelib.plan.records import (
    DatabasePoint,
    RecoveryTarget,
    StoredObject,
    WalFinding,
    WalTick,
)
from chalicelib.plan.wal import (
    SEGMENT_BYTES,
    WalInventory,
    WalObject,
    best_segments,
    find_windows,
    follow,
    parse_history,
    parse_history_key,
    parse_wal_key,
    partial_key,
    segment_key,
    segment_start,
    stretches,
)
from chalicelib.ports import Inventory, SourceFacts
from chalicelib.recover.window import choose_points, newest_moment
from chalicelib.services.jobs.databases import tell_tick

MIB = 1 << 20
S = SEGMENT_BYTES
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
SIZES = st.sampled_from([MIB, 16 * MIB, 64 * MIB, 1024 * MIB])
LSNS = st.integers(min_value=1 << 20, max_value=1 << 50)


def segment(number: int, timeline: int = 1) -> WalObject:
    found = parse_wal_key(segment_key(timeline, number * S), NOON + timedelta(minutes=number))
    assert found
    return found


def partial(end_lsn: int, timeline: int = 1) -> WalObject:
    found = parse_wal_key(partial_key(timeline, end_lsn), NOON)
    assert found
    return found


def point(number: int, **changed: Any) -> DatabasePoint:
    """Taken in segment `number`, in that minute."""
    values: dict[str, Any] = {
        "id": f"p{number}",
        "component": "db",
        "kind": "full",
        "taken_at": NOON + timedelta(minutes=number),
        "finished_at": NOON + timedelta(minutes=number, seconds=30),
        "system_id": "1",
        "server_version": 170010,
        "timeline": 1,
        "start_lsn": number * S + 40,
        "end_lsn": number * S + 4000,
        "objects": (StoredObject("k", 1, "0"),),
        "source_bytes": 1,
        "encryption": "none",
    }
    return DatabasePoint(**{**values, **changed})


def inventory(
    points: list[DatabasePoint],
    segments: list[WalObject],
    histories: dict[int, tuple[tuple[int, int], ...]] | None = None,
) -> Inventory:
    wal = WalInventory(best_segments(segments), histories or {})
    return Inventory(tuple(points), (), wal, tuple(find_windows(wal, points)))


@given(LSNS, SIZES, st.integers(min_value=1, max_value=1 << 31))
def test_a_segments_key_says_what_it_holds(lsn: int, size: int, timeline: int) -> None:
    found = parse_wal_key(segment_key(timeline, lsn, size), NOON, size)
    assert found is not None
    assert (found.timeline, found.partial) == (timeline, False)
    assert found.start_lsn == segment_start(lsn, size) <= lsn < found.end_lsn
    assert found.end_lsn - found.start_lsn == size


@given(LSNS, SIZES)
def test_a_partial_key_says_how_far_it_reaches(end: int, size: int) -> None:
    found = parse_wal_key(partial_key(3, end, size), NOON, size)
    assert found is not None
    assert found.partial
    assert found.end_lsn == end
    assert found.start_lsn < end <= found.start_lsn + size


@given(st.lists(st.integers(min_value=1, max_value=40), unique=True))
def test_stretches_lose_nothing_and_have_no_gap(numbers: list[int]) -> None:
    segments = sorted((segment(n) for n in numbers), key=lambda item: item.start_lsn)
    runs = stretches(segments, S)
    assert [item for run in runs for item in run] == segments
    for run in runs:
        assert all(a.end_lsn == b.start_lsn for a, b in zip(run, run[1:], strict=False))
    for one, other in zip(runs, runs[1:], strict=False):
        assert one[-1].end_lsn < other[0].start_lsn


@pytest.mark.parametrize(
    "key",
    [
        "wal/00000001.history",
        "wal/00000001/000000010000000000000001.changes.json",
        "wal/00000001/000000010000000000000001",
        "wal/00000001/00000001000000000000000g.zst",
        "points/x/base.tar.zst",
    ],
)
def test_foreign_keys_are_no_segments(key: str) -> None:
    assert parse_wal_key(key, NOON) is None


def test_histories_are_read_as_postgresql_writes_them() -> None:
    content = b"1\t0/3000000\tno recovery target specified\n\n# remark\n2\t1/A000028\tbefore x\n"
    assert parse_history(content) == ((1, 0x3000000), (2, 0x1_0A000028))
    assert parse_history_key("wal/0000000A.history") == 10


def test_a_complete_segment_wins_over_any_partial() -> None:
    complete, short, long = segment(5), partial(5 * S + 100), partial(5 * S + 5000)
    assert best_segments([long, short]) == (long,)
    for order in ([long, complete, short], [complete, long], [short, complete]):
        assert best_segments(order) == (complete,)


def test_a_partial_in_the_middle_is_a_gap() -> None:
    found = inventory([point(1)], [segment(1), partial(2 * S + 100), segment(3)])
    assert [(w.start_lsn, w.end_lsn) for w in found.windows] == [(S + 4000, 2 * S + 100)]


def test_a_missing_segment_splits_the_window() -> None:
    found = inventory([point(1), point(5)], [segment(n) for n in (1, 2, 4, 5, 6)])
    assert [(w.start_lsn, w.end_lsn) for w in found.windows] == [
        (S + 4000, 3 * S),
        (5 * S + 4000, 7 * S),
    ]


def test_wal_without_a_base_backup_opens_no_window() -> None:
    assert inventory([], [segment(1), segment(2)]).windows == ()
    bad = point(1, checksum_failures=("block 7",))
    assert inventory([bad], [segment(1), segment(2)]).windows == ()


def test_a_window_begins_where_a_recovery_can() -> None:
    """Not with an incremental whose full backup is gone, or has damaged pages."""
    child = point(3, kind="incremental", parent_id="p2")
    grandchild = point(4, kind="incremental", parent_id="p3")
    segments = [segment(n) for n in range(1, 8)]
    for below in ([], [point(2, checksum_failures=("block 7",))]):
        assert inventory([*below, child, grandchild], segments).windows == ()
        [window] = inventory([*below, child, grandchild, point(5)], segments).windows
        assert window.start_lsn == 5 * S + 4000
    [window] = inventory([point(2), child, grandchild], segments).windows
    assert window.start_lsn == 2 * S + 4000


def test_a_new_timeline_continues_the_old_one() -> None:
    """Timeline 2 left 1 in segment 3; its own segment 3 begins with a copy of the old one."""
    switch = 3 * S + 500
    segments = [segment(1), segment(2), partial(switch), segment(3, 2), segment(4, 2)]
    found = inventory([point(1)], segments, {2: ((1, switch),)})
    assert [item.timeline for item in follow(found.wal, 2)] == [1, 1, 2, 2]
    ends = {window.timeline: window.end_lsn for window in found.windows}
    assert ends == {1: switch, 2: 5 * S}


def test_a_point_after_the_fork_is_not_on_the_way_to_the_other_branch() -> None:
    switch = 3 * S + 500
    segments = [segment(n) for n in (1, 2, 3, 4, 5)] + [segment(3, 2), segment(4, 2)]
    found = inventory([point(1), point(4)], segments, {2: ((1, switch),)})
    choice = choose_points(found, RecoveryTarget("lsn", "x", 4 * S + 9000, timeline=2))
    assert [chain.points[0].id for chain in choice.chains] == ["p1"]
    assert {item.point_id: item.code for item in choice.rejected} == {"p4": "other-timeline"}


SEGMENTS = [segment(n) for n in range(1, 10)]


def chosen(points: list[DatabasePoint], target: RecoveryTarget) -> list[list[str]]:
    choice = choose_points(inventory(points, SEGMENTS), target)
    return [[item.id for item in chain.points] for chain in choice.chains]


def test_the_newest_point_before_the_target_comes_first() -> None:
    points = [point(1), point(3), point(6)]
    assert chosen(points, RecoveryTarget("end", "")) == [["p6"], ["p3"], ["p1"]]
    assert chosen(points, RecoveryTarget("xid", "9", 5 * S)) == [["p3"], ["p1"]]
    at = (NOON + timedelta(minutes=4)).isoformat()
    assert chosen(points, RecoveryTarget("time", at)) == [["p3"], ["p1"]]


def test_an_incremental_brings_its_chain() -> None:
    points = [
        point(1),
        point(2, kind="incremental", parent_id="p1"),
        point(3, kind="incremental", parent_id="p2"),
    ]
    assert chosen(points, RecoveryTarget("end", ""))[0] == ["p1", "p2", "p3"]


@pytest.mark.parametrize(
    ("broken", "code"),
    [
        ([point(1)], "chain-broken"),
        ([point(1), point(2, checksum_failures=("block 1",))], "checksum-failures"),
    ],
)
def test_a_chain_is_as_good_as_its_worst_point(broken: list[DatabasePoint], code: str) -> None:
    points = [*broken, point(4, kind="incremental", parent_id="p2")]
    choice = choose_points(inventory(points, SEGMENTS), RecoveryTarget("end", ""))
    assert [chain.points[-1].id for chain in choice.chains] == ["p1"]
    assert {item.point_id: item.code for item in choice.rejected}["p4"] == code


def test_outside_names_the_windows_and_damaged_names_the_points() -> None:
    found = inventory([point(2)], SEGMENTS)
    with pytest.raises(OutsideWindow) as outside:
        choose_points(found, RecoveryTarget("time", "2020-01-01T00:00:00Z"))
    assert "2026-11-22T12:02:30" in outside.value.message
    with pytest.raises(BadInput):
        choose_points(found, RecoveryTarget("xid", "7"))
    with pytest.raises(BadInput):
        choose_points(found, RecoveryTarget("time", "yesterday"))
    orphan = inventory([point(2), point(3, kind="incremental", parent_id="gone")], SEGMENTS)
    only_orphan = Inventory(orphan.points[1:], (), orphan.wal, orphan.windows)
    with pytest.raises(Damaged) as damaged:
        choose_points(only_orphan, RecoveryTarget("end", ""))
    assert "p3" in damaged.value.context["rejected"][0]


FACTS = SourceFacts("1", 170010, 1, 0, S, summarizes_wal=True)


@pytest.mark.parametrize(
    ("points", "facts", "parent"),
    [
        ([point(1), point(2)], FACTS, "p2"),
        ([point(1), point(2, checksum_failures=("x",))], FACTS, "p1"),
        ([point(1), point(2, timeline=2)], FACTS, "p1"),
        ([point(1), point(2, server_version=160001)], FACTS, "p1"),
        ([], FACTS, None),
        ([point(1)], SourceFacts("1", 160010, 1, 0, S, summarizes_wal=False), None),
        ([point(1)], SourceFacts("1", 170010, 1, 0, S, summarizes_wal=False), None),
    ],
)
def test_an_incremental_builds_on_the_newest_clean_point(
    points: list[DatabasePoint], facts: SourceFacts, parent: str | None
) -> None:
    found, why = choose_parent(tuple(points), facts)
    assert (found.id if found else None) == parent
    assert bool(why) == (found is None)


@given(st.text(min_size=1, max_size=200))
def test_slot_names_are_what_postgresql_allows(component: str) -> None:
    name = slot_name(component)
    assert len(name) <= 63
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_")


def test_the_newest_moment_is_one_that_a_clean_chain_leads_to() -> None:
    """What the RPO is measured by: WAL behind a backup that cannot be restored is worth nothing."""
    segments = [segment(1), segment(2), segment(4), segment(5)]
    full, child = point(1), point(4, kind="incremental", parent_id="p1")
    assert newest_moment(inventory([full, child], segments)) == segment(5).stored_at
    # The full backup was quarantined, or is not whole: its incremental leads nowhere.
    assert newest_moment(inventory([child], segments)) is None
    older = point(1, id="older")
    assert newest_moment(inventory([older, child], segments)) == segment(2).stored_at
    assert newest_moment(inventory([full], [])) is None, "a base backup needs its own WAL"
    assert newest_moment(inventory([], segments)) is None


def test_a_tick_tells_what_it_found_besides() -> None:
    """A map of the tables that cannot be read takes their names from what is dropped later."""
    refused = WalFinding("relation-map-failed", "permission denied", gap=False)
    tick = WalTick("db", NOON, 1, 0x300, 1, "reserved", None, (refused,), 0.1)
    assert tell_tick(tick) == (
        "WAL stored up to 0/300, 1 segment, slot reserved without a limit; "
        "RELATION-MAP-FAILED: permission denied"
    )
    assert tell_tick(replace(tick, findings=(), safe_bytes=1)).endswith("slot reserved")
    behind = replace(tick, findings=(), safe_bytes=1, slot_status="unreserved")
    assert tell_tick(behind).endswith(
        "slot unreserved; BEHIND: the server keeps more WAL than its max_wal_size"
    )
