"""Which points stay: the golden cases in which tools differ, and what holds for every input."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.backup.retention.decide import decide_retention
from chalicelib.backup.retention.reasons import RetentionDecision
from chalicelib.errors import NothingWouldRemain
from chalicelib.plan.components import Retention
from chalicelib.plan.records import PointStanding
from chalicelib.ports import RejectedPoint
from tests.points import database_standing, standing

DAY = timedelta(days=1)
NOON = datetime(2025, 4, 10, 12, tzinfo=UTC)
NEXUS = Retention(daily=7, weekly=4, monthly=12, yearly=7)


def daily(newest: datetime, number: int) -> list[PointStanding]:
    return [standing(newest - day * DAY) for day in range(number)]


def kept_days(decision: RetentionDecision) -> list[str]:
    return [f"{kept.standing.point.taken_at:%m%d}" for kept in decision.keep]


def kept_ids(decision: RetentionDecision) -> set[str]:
    return {kept.standing.point.id for kept in decision.keep}


def rules_of(decision: RetentionDecision, one: PointStanding) -> set[str]:
    found = [kept.rules for kept in decision.keep if kept.standing.point.id == one.point.id]
    return set(found[0]) if found else set()


# The six cases of docs/decisions/0008-retention.md.


def test_a_hundred_days_keep_what_restic_keeps() -> None:
    """The last days, weeks and months overlap; the oldest stays while months are free."""
    decision = decide_retention(daily(NOON, 100), NEXUS, now=NOON)
    assert kept_days(decision) == [
        "0410", "0409", "0408", "0407", "0406", "0405", "0404",
        "0331", "0330", "0323", "0228", "0131", "0101",
    ]  # fmt: skip
    assert len(decision.prune) == 87


def test_an_outage_of_forty_days_costs_nothing() -> None:
    before_the_outage = daily(NOON - 40 * DAY, 60)
    decision = decide_retention(before_the_outage, Retention(daily=7, weekly=4), now=NOON)
    assert (
        decision.keep
        == decide_retention(
            before_the_outage, Retention(daily=7, weekly=4), now=NOON - 40 * DAY
        ).keep
    )
    assert kept_days(decision) == [
        "0301", "0228", "0227", "0226", "0225", "0224", "0223", "0216", "0209",
    ]  # fmt: skip


def test_weeks_are_iso_weeks_over_the_new_year() -> None:
    points = daily(datetime(2025, 1, 8, 2, tzinfo=UTC), 24)
    decision = decide_retention(points, Retention(weekly=4), now=NOON)
    assert kept_days(decision) == ["0108", "0105", "1229", "1222"]


def test_the_newest_of_a_day_stands_for_it() -> None:
    points = [standing(NOON.replace(hour=h) - d * DAY) for h in (0, 6, 12, 18) for d in range(3)]
    decision = decide_retention(points, Retention(daily=2), now=NOON + DAY)
    assert [f"{kept.standing.point.taken_at:%d %H}" for kept in decision.keep] == ["10 18", "09 18"]


@pytest.mark.parametrize(
    ("zone", "expected"),
    [("America/New_York", ["09 03:30", "10 03:30"]), ("UTC", ["09 12:00", "10 03:30"])],
)
def test_days_are_days_of_the_zone(zone: str, expected: list[str]) -> None:
    """New York changes to summer time on 2025-03-09, at 07:00 UTC."""
    points = [
        standing(datetime(2025, 3, day, hour, minute, tzinfo=UTC))
        for day, hour, minute in ((9, 3, 30), (9, 12, 0), (10, 3, 30))
    ]
    decision = decide_retention(points, Retention(daily=2), now=NOON, time_zone=zone)
    kept = sorted(f"{kept.standing.point.taken_at:%d %H:%M}" for kept in decision.keep)
    assert kept == expected


def test_a_point_from_the_future_stays_and_takes_no_slot() -> None:
    future = standing(datetime(2035, 1, 1, tzinfo=UTC))
    decision = decide_retention([future, *daily(NOON, 10)], Retention(daily=7), now=NOON)
    assert len(decision.keep) == 8
    assert rules_of(decision, future) == {"future"}
    within = decide_retention([future, *daily(NOON, 10)], Retention(all=3 * DAY), now=NOON)
    assert len(within.keep) == 1 + 3


# What stays whatever the calendar says.


def test_all_counts_back_from_the_newest() -> None:
    decision = decide_retention(daily(NOON, 40), Retention(all=30 * DAY), now=NOON + 400 * DAY)
    assert len(decision.keep) == 30
    assert {kept.reasons[0].words for kept in decision.keep} == {"within 30d of the newest"}


def test_the_newest_proven_point_never_goes() -> None:
    points = daily(NOON, 30)
    old = replace(points[20], proven_at=NOON)
    older = replace(points[25], proven_at=NOON)
    decision = decide_retention([*points[:20], old, older], Retention(daily=1), now=NOON)
    assert rules_of(decision, old) == {"newest-proven"}
    assert rules_of(decision, older) == set()
    assert "newest-unproven" in rules_of(decision, points[0])


def test_what_a_kept_incremental_builds_on_stays() -> None:
    full = standing(NOON - 20 * DAY)
    first = standing(NOON - 19 * DAY, parent=full)
    second = standing(NOON - 1 * DAY, parent=first)
    beside = standing(NOON - 18 * DAY, parent=full)
    decision = decide_retention([full, first, second, beside], Retention(daily=1), now=NOON)
    assert kept_ids(decision) == {full.point.id, first.point.id, second.point.id}
    assert "needed" in rules_of(decision, first)
    assert "needed" in rules_of(decision, full)


def test_increments_stay_with_their_daily_and_do_not_stand_for_it() -> None:
    """A day, week or year is represented by a point that can be restored by itself."""
    points = []
    for day in range(20):
        full = standing(NOON - day * DAY)
        points += [full, standing(NOON - day * DAY + timedelta(hours=6), parent=full)]
    decision = decide_retention(points, Retention(daily=3, weekly=3), now=NOON + DAY)
    told = [(kept.standing.point.kind, kept.rules & {"daily", "weekly", "increment"})
            for kept in decision.keep]  # fmt: skip
    assert Counter(kind for kind, _ in told) == {"full": 5, "incremental": 3}
    assert all(("increment" in rules) == (kind == "incremental") for kind, rules in told)


def test_a_day_without_a_full_point_is_represented_by_its_newest() -> None:
    """Full on Sunday, incremental on the other days."""
    sunday = datetime(2025, 4, 6, 2, tzinfo=UTC)
    points = []
    for week in range(4):
        last = standing(sunday - (21 - 7 * week) * DAY)
        points.append(last)
        for _ in range(6):
            last = standing(last.point.taken_at + DAY, parent=last)
            points.append(last)
    decision = decide_retention(points, Retention(daily=3, weekly=4), now=sunday + 7 * DAY)
    daily_kept = [kept for kept in decision.keep if "daily" in kept.rules]
    weekly_kept = [kept for kept in decision.keep if "weekly" in kept.rules]
    assert [f"{kept.standing.point.taken_at:%m%d}" for kept in daily_kept] == [
        "0412", "0411", "0410"
    ]  # fmt: skip
    assert {kept.standing.point.kind for kept in weekly_kept[1:]} == {"full"}
    assert len(decision.keep) == 7 + 2


def test_a_chain_of_any_length_costs_no_more_than_its_points() -> None:
    """Full backups failed for years; a quadratic walk would take minutes."""
    points = [standing(NOON - 20000 * timedelta(hours=1))]
    for hour in range(1, 20000):
        at = points[0].point.taken_at + hour * timedelta(hours=1)
        points.append(standing(at, parent=points[-1]))
    started = time.process_time()
    decision = decide_retention(points, Retention(daily=2), now=NOON)
    assert len(decision.keep) == 20000
    assert time.process_time() - started < 2


def test_quarantined_points_stay_and_take_no_slot() -> None:
    points = daily(NOON, 10)
    bad = replace(points[0], quarantined="ransomware", proven_at=NOON)
    decision = decide_retention([bad, *points[1:]], Retention(daily=2), now=NOON)
    assert rules_of(decision, bad) == {"quarantined"}
    assert "daily" in rules_of(decision, points[1])
    assert "daily" in rules_of(decision, points[2])


def test_an_incremental_on_a_quarantined_point_takes_no_slot() -> None:
    points = daily(NOON - DAY, 3)
    bad = replace(standing(NOON - timedelta(hours=2)), quarantined="bytes differ")
    child = standing(NOON, parent=bad)
    decision = decide_retention([*points, bad, child], Retention(daily=1), now=NOON)
    assert rules_of(decision, child) == {"broken-chain"}
    assert "daily" in rules_of(decision, points[0])


def test_a_point_whose_pages_fail_goes_when_a_newer_one_is_proven() -> None:
    bad = database_standing(NOON - DAY, checksum_failures=("base/1/2 block 3",))
    before, after = standing(NOON - 2 * DAY), standing(NOON)
    unproven = decide_retention([before, bad, after], Retention(daily=2), now=NOON)
    assert rules_of(unproven, bad) == {"bad-pages"}
    assert "daily" in rules_of(unproven, before)
    proven = replace(after, proven_at=NOON)
    assert decide_retention([before, bad, proven], Retention(daily=2), now=NOON).prune == (bad,)


def test_held_and_locked_points_stay() -> None:
    points = daily(NOON, 10)
    held = replace(points[8], held="legal request 7")
    locked = replace(points[9], locked_until=NOON + DAY)
    unlocked = replace(points[7], locked_until=NOON)
    decision = decide_retention([*points[:7], unlocked, held, locked], Retention(daily=2), now=NOON)
    assert rules_of(decision, held) == {"held"}
    assert rules_of(decision, locked) == {"locked"}
    assert unlocked in decision.prune


def test_the_window_of_logs_keeps_the_point_that_opens_it() -> None:
    """Moments of the last seven days are reached from a base backup before them; tomorrow from the
    next one."""
    points = daily(NOON, 20)
    decision = decide_retention(points, Retention(daily=2, logs=7 * DAY), now=NOON)
    assert kept_days(decision) == ["0410", "0409", "0404", "0403"]
    assert rules_of(decision, points[7]) == rules_of(decision, points[6]) == {"logs"}


def test_a_backup_that_was_not_over_before_the_window_does_not_open_it() -> None:
    points = daily(NOON, 20)
    slow = replace(points[7].point, finished_at=points[7].point.finished_at + timedelta(hours=6))
    points[7] = replace(points[7], point=slow)
    decision = decide_retention(points, Retention(daily=2, logs=7 * DAY), now=NOON)
    assert kept_days(decision) == ["0410", "0409", "0403", "0402"]


def test_components_are_decided_by_themselves() -> None:
    mine, theirs = daily(NOON, 5), [standing(NOON - 900 * DAY, component="other")]
    decision = decide_retention([*mine, *theirs], Retention(daily=2), now=NOON)
    assert kept_days(decision) == ["0410", "0409", "1023"]


def test_what_cannot_be_read_is_said() -> None:
    rejected = RejectedPoint("20250409T120000Z-full", "tampered", "its digest differs")
    decision = decide_retention([], Retention(daily=1), now=NOON, unreadable=[rejected])
    assert decision.unreadable == (rejected,)


def test_a_policy_that_keeps_nothing_is_refused() -> None:
    with pytest.raises(NothingWouldRemain) as caught:
        decide_retention(daily(NOON, 3), Retention(logs=DAY), now=NOON)
    assert caught.value.instance_code == "nothing-would-remain"
    assert decide_retention([], Retention(), now=NOON).keep == ()


def test_every_pruned_point_has_its_reason() -> None:
    points = daily(NOON, 100)
    decision = decide_retention(points, NEXUS, now=NOON)
    assert decision.why_pruned(points[50]).rule == "represented"
    short = decide_retention(points, Retention(daily=7), now=NOON)
    assert {short.why_pruned(one).rule for one in short.prune} == {"outlived"}


# What holds for every input.

START = datetime(2024, 12, 20, tzinfo=UTC)
ZONES = st.sampled_from(
    ["UTC", "America/New_York", "Europe/Berlin", "Pacific/Apia", "Asia/Beirut", "America/Havana"]
)
COUNTS = st.integers(0, 5)
POLICIES = st.builds(
    Retention,
    all=st.none() | st.timedeltas(DAY, 20 * DAY),
    daily=st.integers(1, 5),
    weekly=COUNTS,
    monthly=COUNTS,
    yearly=COUNTS,
    logs=st.none() | st.timedeltas(DAY, 20 * DAY),
)


@st.composite
def shelves(draw: st.DrawFn) -> list[PointStanding]:
    """Points of every fate, an hour or many apart, full and incremental."""
    points: list[PointStanding] = []
    at = START
    for _ in range(draw(st.integers(1, 30))):
        at += timedelta(hours=draw(st.integers(1, 900)))
        parent = draw(st.sampled_from(points)) if points and draw(st.booleans()) else None
        points.append(
            replace(
                standing(at, parent=parent),
                proven_at=draw(st.sampled_from([None, at])),
                held=draw(st.sampled_from(["", "", "", "why"])),
                quarantined=draw(st.sampled_from(["", "", "", "", "bad"])),
                locked_until=draw(st.sampled_from([None, None, at + 400 * DAY])),
            )
        )
    return draw(st.permutations(points))


@settings(deadline=None)
@given(shelves(), POLICIES, ZONES, st.integers(0, 3 * 365))
def test_invariants(points: list[PointStanding], policy: Retention, zone: str, days: int) -> None:
    now = START + days * DAY
    decision = decide_retention(points, policy, now=now, time_zone=zone)
    keep = [kept.standing for kept in decision.keep]
    kept = kept_ids(decision)
    assert sorted((*keep, *decision.prune), key=str) == sorted(points, key=str)
    assert all(kept.reasons for kept in decision.keep)
    assert keep
    by_id = {one.point.id: one for one in points}
    for one in keep:
        assert one.point.parent_id is None or one.point.parent_id in kept
    for one in decision.prune:
        assert not one.held
        assert not one.quarantined
        assert one.locked_until is None or one.locked_until <= now
        assert one.point.taken_at <= now
    sound = [one for one in points if one.point.taken_at <= now and is_sound(one, by_id)]
    proven = [one for one in sound if one.proven_at]
    for group in (sound, proven):
        if group:
            assert max(group, key=lambda one: one.point.taken_at).point.id in kept
    again = decide_retention(keep, policy, now=now, time_zone=zone)
    assert again.prune == ()


def is_sound(one: PointStanding, by_id: dict[str, PointStanding]) -> bool:
    if one.quarantined:
        return False
    return one.point.parent_id is None or is_sound(by_id[one.point.parent_id], by_id)


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=40),
    st.builds(Retention, daily=st.integers(1, 3), logs=st.timedeltas(DAY, 20 * DAY)),
)
def test_a_prune_a_day_leaves_every_promised_moment_reachable(
    gaps: list[int], policy: Retention
) -> None:
    """However few dailies are kept: what will open the window is there when its time has come."""
    shelf: list[PointStanding] = []
    at, first_at = START, None
    assert policy.logs
    for hours in gaps:
        at += timedelta(hours=hours)
        first_at = first_at or at
        shelf.append(standing(at))
        decision = decide_retention(shelf, policy, now=at)
        shelf = [kept.standing for kept in decision.keep]
        oldest_needed = max(first_at, at - policy.logs)
        assert min(one.point.taken_at for one in shelf) <= oldest_needed
        assert len(shelf) <= policy.daily + 2


HOURS = st.lists(st.integers(1, 40 * 24), min_size=1, max_size=60)
CALENDARS = st.builds(
    Retention, daily=st.integers(1, 4), weekly=COUNTS, monthly=COUNTS, yearly=COUNTS
)


def fulls(hours: list[int]) -> list[PointStanding]:
    at, points = START, []
    for number in hours:
        at += timedelta(hours=number)
        points.append(standing(at))
    return points


@settings(deadline=None)
@given(HOURS, CALENDARS, ZONES)
def test_the_tiers_are_those_of_a_plain_count(
    hours: list[int], policy: Retention, zone: str
) -> None:
    """Against restic's own way: newest first, one counter a tier, by the local date's name."""
    points = fulls(hours)
    now = points[-1].point.taken_at
    decision = decide_retention(points, policy, now=now, time_zone=zone)
    assert kept_ids(decision) == plain_count(points, policy, zone)


def plain_count(points: list[PointStanding], policy: Retention, zone: str) -> set[str]:
    names = {"daily": "%Y-%m-%d", "weekly": "%G-%V", "monthly": "%Y-%m", "yearly": "%Y"}
    left = {tier: getattr(policy, tier) for tier in names}
    last = dict.fromkeys(names, "")
    kept = set()
    for place, one in enumerate(reversed(points)):
        local = one.point.taken_at.astimezone(ZoneInfo(zone))
        for tier, form in names.items():
            oldest = place == len(points) - 1
            if left[tier] and (f"{local:{form}}" != last[tier] or oldest):
                last[tier], left[tier] = f"{local:{form}}", left[tier] - 1
                kept.add(one.point.id)
    return kept


@settings(deadline=None)
@given(HOURS, CALENDARS, ZONES)
def test_pruning_at_every_point_is_pruning_once(
    hours: list[int], policy: Retention, zone: str
) -> None:
    """So it does not matter how often the pruner runs, or for how long it did not."""
    points = fulls(hours)
    left: list[PointStanding] = []
    for one in points:
        now = one.point.taken_at
        decision = decide_retention([*left, one], policy, now=now, time_zone=zone)
        left = [kept.standing for kept in decision.keep]
    once = decide_retention(points, policy, now=now, time_zone=zone)
    assert {one.point.id for one in left} == kept_ids(once)


@settings(deadline=None)
@given(HOURS, CALENDARS, st.none() | st.timedeltas(DAY, 40 * DAY))
def test_what_went_stays_gone_when_newer_points_come(
    hours: list[int], policy: Retention, period: timedelta | None
) -> None:
    points = fulls(hours)
    policy = policy.model_copy(update={"all": period})
    now = points[-1].point.taken_at + 90 * DAY
    before = decide_retention(points[:-1], policy, now=now)
    after = decide_retention(points, policy, now=now)
    assert not {one.point.id for one in before.prune} & kept_ids(after)
