"""Locks follow the tiers: long enough for what is promised, never longer than it is kept."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from chalicelib.backup.retention.decide import decide_retention
from chalicelib.backup.retention.locks import (
    LockDecision,
    decide_locks,
    default_lock_days,
    lock_at_write,
)
from chalicelib.plan.components import Retention
from chalicelib.plan.records import PointStanding
from tests.points import standing

DAY = timedelta(days=1)
MONDAY = datetime(2026, 11, 16, 2, tzinfo=UTC)
NEXUS = Retention(daily=7, weekly=4, monthly=12, yearly=7)


def decide(points: list[PointStanding], now: datetime, policy: Retention = NEXUS) -> LockDecision:
    return decide_locks(decide_retention(points, policy, now=now), policy, now=now)


def until(decision: LockDecision, one: PointStanding) -> tuple[str, str] | None:
    found = [
        (f"{change.until:%Y-%m-%d %H:%M}", change.rule)
        for change in decision.extend
        if change.standing.point.id == one.point.id
    ]
    return found[0] if found else None


def test_a_new_point_is_locked_for_the_finest_tier() -> None:
    assert lock_at_write(MONDAY, NEXUS) == datetime(2026, 11, 23, tzinfo=UTC)
    assert lock_at_write(MONDAY, Retention(all=30 * DAY)) == MONDAY + 30 * DAY
    assert lock_at_write(MONDAY, Retention(weekly=4)) == datetime(2026, 12, 14, tzinfo=UTC)
    new_york = lock_at_write(MONDAY, NEXUS, time_zone="America/New_York")
    assert new_york == datetime(2026, 11, 22, 5, tzinfo=UTC)


def test_a_lock_that_a_store_keeps_in_whole_seconds_is_not_extended_again() -> None:
    point, policy = standing(MONDAY + timedelta(microseconds=250)), Retention(all=30 * DAY)
    [change] = decide([point], point.point.taken_at, policy).extend
    assert change.until == MONDAY + 30 * DAY + timedelta(seconds=1)
    assert lock_at_write(point.point.taken_at, policy) == change.until
    locked = replace(point, locked_until=change.until.replace(microsecond=0))
    assert decide([locked], point.point.taken_at, policy).extend == ()


def test_a_point_is_promoted_when_its_period_is_over() -> None:
    sunday = standing(datetime(2026, 11, 29, 2, tzinfo=UTC))
    monday = standing(datetime(2026, 11, 30, 2, tzinfo=UTC))
    tuesday = standing(datetime(2026, 12, 1, 2, tzinfo=UTC))
    on_sunday = decide([sunday], sunday.point.taken_at)
    assert until(on_sunday, sunday) == ("2026-12-06 00:00", "daily")
    points = [sunday, monday]
    assert until(decide(points, monday.point.taken_at), sunday) == ("2026-12-21 00:00", "weekly")
    later = decide([sunday, monday, tuesday], tuesday.point.taken_at)
    assert until(later, monday) == ("2027-11-01 00:00", "monthly")


def test_locks_are_only_extended_and_only_once() -> None:
    points = [standing(MONDAY + day * DAY) for day in range(20)]
    now = points[-1].point.taken_at
    asked = {change.standing.point.id: change.until for change in decide(points, now).extend}
    assert asked
    locked = [replace(one, locked_until=asked.get(one.point.id)) for one in points]
    assert decide(locked, now).extend == ()
    longer = [replace(one, locked_until=now + 9000 * DAY) for one in points]
    assert decide(longer, now).extend == ()


def test_what_a_locked_point_builds_on_is_locked_as_long() -> None:
    full = standing(MONDAY)
    last = standing(MONDAY + DAY, parent=full)
    on_the_day = decide([full, last], last.point.taken_at, Retention(daily=3))
    assert until(on_the_day, last) == ("2026-11-19 00:00", "increment")
    decision = decide([full, last], MONDAY + 2 * DAY, Retention(daily=3))
    assert until(decision, last) == ("2026-11-20 00:00", "daily")
    assert until(decision, full) == ("2026-11-20 00:00", "needed")


def test_an_increment_is_locked_as_long_as_the_full_point_under_it() -> None:
    full = standing(MONDAY)
    night = standing(MONDAY + timedelta(hours=23), parent=full)
    next_day = standing(MONDAY + timedelta(hours=24))
    decision = decide([full, night, next_day], next_day.point.taken_at)
    assert until(decision, night) == ("2026-11-23 00:00", "increment")


def test_an_outage_does_not_leave_the_newest_point_unlocked() -> None:
    last = standing(MONDAY)
    assert until(decide([last], MONDAY + 2 * DAY), last) == ("2026-11-24 00:00", "weekly")


def test_what_only_a_lock_keeps_is_told() -> None:
    points = [standing(MONDAY - day * DAY) for day in range(10)]
    points[9] = replace(points[9], locked_until=MONDAY + 90 * DAY)
    assert decide(points, MONDAY, Retention(daily=3)).kept_by_lock == (points[9],)


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York"])
def test_for_six_years_no_lock_delays_a_prune_and_no_promise_is_unlocked(zone: str) -> None:
    """A full backup a day and an increment in the evening; locks made as asked."""
    policy = Retention(daily=5, weekly=4, monthly=6, yearly=2)
    points: list[PointStanding] = []
    for day in range(6 * 365):
        now = datetime(2026, 1, 1, 2, tzinfo=UTC) + day * DAY
        full = standing(now)
        points += [full, standing(now + timedelta(hours=17), parent=full)]
        now += timedelta(hours=18)
        points = run_pruner(points, policy, now, zone)
    assert len(points) < 30


def run_pruner(
    points: list[PointStanding], policy: Retention, now: datetime, zone: str
) -> list[PointStanding]:
    decision = decide_retention(points, policy, now=now, time_zone=zone)
    locks = decide_locks(decision, policy, now=now, time_zone=zone)
    assert locks.kept_by_lock == ()
    asked = {change.standing.point.id: change.until for change in locks.extend}
    left = []
    for kept in decision.keep:
        one = kept.standing
        one = replace(one, locked_until=asked.get(one.point.id, one.locked_until))
        assert kept.rules <= {"oldest"} or one.locked_until, kept
        if not kept.rules <= {"oldest"}:
            assert one.locked_until > now, kept
        left.append(one)
    return left


def test_a_buckets_default_is_short_enough_for_every_point_in_it() -> None:
    """Given at any hour, it never outlasts what the calendar promises a new point."""
    assert default_lock_days([NEXUS, Retention(all=30 * DAY)]) == 6
    assert default_lock_days([Retention(all=30 * DAY)]) == 30
    assert default_lock_days([Retention(daily=1)]) == 0
    for policy in (NEXUS, Retention(weekly=2), Retention(monthly=2), Retention(all=9 * DAY)):
        for hour in range(24 * 60):
            taken_at = MONDAY + hour * timedelta(hours=1)
            for zone in ("UTC", "America/New_York"):
                end = taken_at + default_lock_days([policy]) * DAY
                assert end <= lock_at_write(taken_at, policy, time_zone=zone) + timedelta(hours=1)
