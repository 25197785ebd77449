"""Which WAL stays: consistency of every kept base backup, and the promised window."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.backup.retention.wal import WalDecision, decide_wal, wal_ranges
from chalicelib.plan.components import Retention
from chalicelib.plan.records import DatabasePoint, PointStanding
from chalicelib.plan.wal import (
    WalInventory,
    WalObject,
    best_segments,
    find_windows,
    parse_wal_key,
    partial_key,
    segment_key,
)
from tests.points import SEGMENT, database_standing

HOUR = timedelta(hours=1)
T0 = datetime(2026, 11, 1, tzinfo=UTC)
NOW = T0 + 100 * HOUR
WEEKLESS = Retention(daily=2, logs=24 * HOUR)


def segment(number: int, timeline: int = 1) -> WalObject:
    """One an hour: segment n holds [n, n + 1) segments of bytes and was stored at T0 + n hours."""
    found = parse_wal_key(segment_key(timeline, number * SEGMENT), T0 + number * HOUR)
    assert found
    return found


def partial(number: int, filled: int, timeline: int = 1) -> WalObject:
    key = partial_key(timeline, number * SEGMENT + filled)
    found = parse_wal_key(key, T0 + number * HOUR)
    assert found
    return found


def base(number: int, *, length: int = 1, timeline: int = 1) -> PointStanding:
    """A base backup whose WAL is segments [number, number + length]."""
    return database_standing(
        T0 + number * HOUR,
        finished_at=T0 + (number + length) * HOUR + timedelta(minutes=1),
        start_lsn=number * SEGMENT + 40,
        end_lsn=(number + length) * SEGMENT + 100,
        timeline=timeline,
    )


def decide(
    objects: list[WalObject],
    kept: list[PointStanding],
    policy: Retention = WEEKLESS,
    *,
    histories: dict[int, tuple[tuple[int, int], ...]] | None = None,
    unreadable: int = 0,
) -> WalDecision:
    return decide_wal(
        objects, histories or {}, kept, policy,
        now=NOW, segment_bytes=SEGMENT, unreadable=unreadable,
    )  # fmt: skip


def kept_numbers(decision: WalDecision) -> list[int]:
    return [one.wal.start_lsn // SEGMENT for one in decision.keep]


def test_the_window_and_every_base_backup_have_their_wal() -> None:
    decision = decide([segment(n) for n in range(101)], [base(10), base(50), base(90)])
    assert kept_numbers(decision) == [10, 11, *range(50, 101)]
    told = [(str(one), one.reason.rule, one.segments) for one in wal_ranges(decision.keep)]
    assert told[0] == ("timeline 1, 0/A000000 to 0/C000000", "needed", 2)
    assert "20261103T020000Z-full" in wal_ranges(decision.keep)[2].reason.words
    assert len(decision.prune) == 101 - 53


def test_the_base_before_the_window_opens_it() -> None:
    """The moment 24 hours ago is reached from the base backup at 50, not from the one at 80."""
    decision = decide([segment(n) for n in range(101)], [base(50), base(80)])
    assert kept_numbers(decision) == list(range(50, 101))


def test_without_a_stated_window_everything_since_the_oldest_base_stays() -> None:
    decision = decide([segment(n) for n in range(101)], [base(30), base(90)], Retention(daily=2))
    assert kept_numbers(decision) == list(range(30, 101))


def test_an_outage_of_the_fetch_makes_nothing_go() -> None:
    """The window counts back from the newest WAL, here 60 hours old."""
    decision = decide([segment(n) for n in range(41)], [base(10), base(30)])
    assert kept_numbers(decision) == list(range(10, 41))


def test_no_wal_goes_while_a_point_cannot_be_read() -> None:
    decision = decide([segment(n) for n in range(101)], [base(90)], unreadable=1)
    assert decision.prune == ()
    assert decision.keep[0].reason.rule == "unreadable"


def test_no_wal_goes_without_a_base_that_can_be_restored() -> None:
    quarantined = replace(base(90), quarantined="bytes differ")
    assert decide([segment(n) for n in range(101)], [quarantined]).prune == ()


def test_a_quarantined_base_keeps_its_own_wal() -> None:
    quarantined = replace(base(5), quarantined="bytes differ")
    decision = decide([segment(n) for n in range(101)], [quarantined, base(60)])
    assert kept_numbers(decision) == [5, 6, *range(60, 101)]


def test_an_incremental_that_cannot_be_restored_opens_no_window() -> None:
    """What it builds on is quarantined, has damaged pages, or is gone: each moment is reached from
    the base backup before it, whose WAL must not have a hole."""
    ends = {"start_lsn": 60 * SEGMENT + 40, "end_lsn": 61 * SEGMENT + 100}
    child = database_standing(T0 + 60 * HOUR, parent=base(50).point.id, **ends)
    quarantined = replace(base(50), quarantined="bytes differ")
    bad_pages = database_standing(
        T0 + 50 * HOUR, start_lsn=50 * SEGMENT, end_lsn=51 * SEGMENT, checksum_failures=("block 7",)
    )
    for below in ([quarantined], [bad_pages], []):
        kept = [base(10), *below, child, base(95)]
        decision = decide([segment(n) for n in range(101)], kept)
        assert kept_numbers(decision) == list(range(10, 101))


def test_a_superseded_partial_goes_and_the_longest_stays() -> None:
    objects = [*(segment(n) for n in range(90, 100)), partial(95, 10), partial(100, 10)]
    longest = partial(100, 500)
    decision = decide([*objects, longest], [base(90)])
    assert [(one.wal.key, one.reason.rule) for one in decision.prune] == [
        (partial(95, 10).key, "superseded"),
        (partial(100, 10).key, "superseded"),
    ]
    assert longest.key in {one.wal.key for one in decision.keep}


def test_an_abandoned_timeline_goes_when_its_window_is_over() -> None:
    """Timeline 1 was left at segment 40; the server promoted there wrote timeline 2."""
    objects = [*(segment(n) for n in range(60)), *(segment(n, 2) for n in range(40, 101))]
    histories = {2: ((1, 40 * SEGMENT + 7),)}
    decision = decide(objects, [base(30), base(90, timeline=2)], histories=histories)
    of_first = [one.wal.start_lsn // SEGMENT for one in decision.keep if one.wal.timeline == 1]
    of_second = [one.wal.start_lsn // SEGMENT for one in decision.keep if one.wal.timeline == 2]
    assert of_first == list(range(30, 40))
    assert of_second == list(range(40, 101))
    early = decide_wal(
        objects[:70], histories, [base(30)], WEEKLESS, now=NOW, segment_bytes=SEGMENT
    )
    assert not [one for one in early.prune if one.wal.start_lsn >= 30 * SEGMENT]


def test_wal_of_a_timeline_whose_history_is_lost_stays() -> None:
    objects = [segment(n, 2) for n in range(5)] + [segment(n) for n in range(60, 101)]
    decision = decide(objects, [base(70)])
    assert {one.reason.rule for one in decision.keep if one.wal.timeline == 2} == {"no-history"}


@settings(deadline=None)
@given(
    bases=st.sets(st.integers(0, 95), min_size=1, max_size=6),
    window=st.integers(1, 120),
    left_at=st.none() | st.integers(1, 99),
)
def test_every_promise_holds_with_what_is_kept(
    bases: set[int], window: int, left_at: int | None
) -> None:
    """Each kept base has its WAL, and each moment of the window that could be reached still can."""
    histories: dict[int, tuple[tuple[int, int], ...]] = {}
    objects = [segment(n) for n in range(101)]
    if left_at is not None:
        objects = objects[:left_at] + [segment(n, 2) for n in range(left_at, 101)]
        histories = {2: ((1, left_at * SEGMENT),)}
    points = [base(n, timeline=2 if left_at is not None and n + 1 >= left_at else 1) for n in bases]
    policy = Retention(daily=1, logs=window * HOUR)
    decision = decide(objects, points, policy, histories=histories)
    kept = {one.wal.key for one in decision.keep}
    assert kept | {one.wal.key for one in decision.prune} == {one.key for one in objects}
    databases = [one.point for one in points if isinstance(one.point, DatabasePoint)]
    before, after = (
        find_windows(WalInventory(best_segments(these), histories), databases)
        for these in (objects, [one for one in objects if one.key in kept])
    )
    since = (100 - window) * SEGMENT
    for promised in before:
        reachable_from = max(promised.start_lsn, since)
        inside = [w for w in after if w.timeline == promised.timeline]
        assert (
            any(
                w.end_lsn >= promised.end_lsn
                and w.start_lsn <= max(reachable_from, promised.start_lsn)
                for w in inside
            )
            or promised.end_lsn <= since
        )
    for point in databases:
        needed = range(point.start_lsn // SEGMENT, point.end_lsn // SEGMENT + 1)
        numbers = {one.wal.start_lsn // SEGMENT for one in decision.keep}
        assert set(needed) & set(range(101)) <= numbers
