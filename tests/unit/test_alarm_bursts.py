"""Many alarms within minutes: few messages, one alert, and no fact fewer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from chalicelib.incidents.alarm_bursts import (
    CLAIM,
    GATHERED_FOR,
    JOINS_WITHIN,
    LONGEST,
    NAMED,
    Burst,
    News,
    burst_deliveries,
    burst_record,
    decide_burst,
)
from chalicelib.incidents.alarms import OVER, QUIET, RAISED, Standing, decide_standing
from chalicelib.incidents.messages import Delivery
from chalicelib.ports.alarms import Alarm
from chalicelib.ports.notify import Message
from leeward.plan_file import load_plan
from tests.scenarios.drills import PLAN

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
NEXUS = load_plan(PLAN).plan


def news(name: str, what: str = RAISED, *, told: int = 1, raised: bool = True) -> News:
    standing = Standing(Alarm(name, f"{name} says it", "Threshold", NOON, own=True), told, NOON)
    return News(standing, what, None if told == 1 and what == RAISED else standing, raised)


def told(
    some: Iterable[News], others: Iterable[str] = (), *, number: str = "1"
) -> tuple[Delivery, ...]:
    beside = [news(name).standing for name in others]
    return burst_deliveries(
        list(some), beside, incident="alarm-x", number=number, plan=NEXUS, at=NOON
    )


def by_kind(found: Iterable[Delivery]) -> dict[str, Message]:
    return {way.kind: it.message for it in found for way in it.ways}


def after(burst: Burst) -> Burst:
    return replace(burst, next_at=burst.told_at + GATHERED_FOR)


def test_the_first_is_told_at_once_and_what_follows_together() -> None:
    first = decide_burst(None, wakes=True, now=NOON)
    assert first is not None
    burst, at, messages = after(first), NOON, 1
    for _ in range(20):
        at += 20 * SECOND
        again = decide_burst(burst, wakes=True, now=at)
        if again is not None:
            messages, burst = messages + 1, after(again)
    assert messages == 3, "of twenty within 6 min 40 s"
    assert burst.number == 3
    assert burst.incident == first.incident


def test_what_wakes_people_waits_for_no_warning() -> None:
    first = decide_burst(None, wakes=False, now=NOON)
    assert first is not None
    assert decide_burst(after(first), wakes=False, now=NOON + SECOND) is None
    louder = decide_burst(after(first), wakes=True, now=NOON + SECOND)
    assert louder is not None
    assert (louder.incident, louder.rang) == (first.incident, True)
    assert decide_burst(after(louder), wakes=True, now=NOON + 2 * SECOND) is None


def test_whoever_dies_in_his_turn_keeps_nothing_back() -> None:
    first = decide_burst(None, wakes=True, now=NOON)
    assert decide_burst(first, wakes=True, now=NOON + CLAIM - SECOND) is None
    assert decide_burst(first, wakes=True, now=NOON + CLAIM) is not None


def test_a_burst_ends_when_it_was_quiet_and_after_an_hour() -> None:
    first = decide_burst(None, wakes=True, now=NOON)
    assert first is not None
    later = decide_burst(after(first), wakes=True, now=NOON + JOINS_WITHIN)
    assert later is not None
    assert (later.incident != first.incident, later.number) == (True, 1)
    burst, at = after(first), NOON
    while (again := decide_burst(burst, wakes=True, now=at + 5 * MINUTE)) is not None:
        at += 5 * MINUTE
        burst = after(again)
        if burst.incident != first.incident:
            break
    assert at - NOON == LONGEST, "a pager rings anew though an alarm comes every five minutes"


def test_a_clock_that_was_ahead_keeps_nothing_back() -> None:
    ahead = decide_burst(None, wakes=True, now=NOON + timedelta(days=900))
    assert decide_burst(ahead, wakes=True, now=NOON) is not None


def test_a_burst_comes_back_as_it_was() -> None:
    burst = decide_burst(None, wakes=True, now=NOON)
    assert burst is not None
    assert Burst.from_json(burst.to_json()) == burst


def test_one_names_each_and_says_how_many_there_are_in_all() -> None:
    some = [news(f"nexus-db-{it}-failed") for it in "cab"]
    message = by_kind(told(some, ["nexus-db-first"], number="2"))["slack"]
    assert message.subject == "Raised: nexus-db-a-failed and 2 more, 4 in all"
    assert message.text.splitlines()[:2] == [
        "- nexus-db-a-failed: nexus-db-a-failed says it (since 2026-11-22 12:00 UTC)",
        "CloudWatch: Threshold",
    ]
    assert "leeward alarms" in message.text
    assert all(it.standing.alarm.name in message.text for it in some)


def test_of_a_storm_the_first_are_named_and_the_others_counted_and_recorded() -> None:
    some = [news(f"nexus-{it:03}-lag-warning") for it in range(99)] + [news("nexus-z-failed")]
    message = by_kind(told(some))["email"]
    assert message.subject == "Raised: nexus-z-failed and 99 more", "what wakes people is first"
    assert sum(line.startswith("- ") for line in message.text.splitlines()) == NAMED
    assert f"and {100 - NAMED} more." in message.text
    recorded = burst_record(some)["alarms"]
    assert {it["alarm"] for it in recorded} == {it.standing.alarm.name for it in some}
    assert all(it["reason"] == "Threshold" for it in recorded)


def test_a_single_one_is_told_as_ever() -> None:
    message = by_kind(told([news("nexus-db-checks-failed")]))["slack"]
    assert message.subject == "Raised: nexus-db-checks-failed"
    assert "CloudWatch: Threshold" in message.text


def test_one_that_ended_while_it_waited_is_told_with_its_end() -> None:
    first = decide_standing(
        Alarm("nexus-db-short", "short", "", NOON, own=True), None, now=NOON, first_look=NOON
    )[0]
    assert first is not None
    waits = replace(first, told=0)
    standing, what = decide_standing(None, waits, now=NOON + MINUTE, first_look=NOON)
    assert (standing, what) == (replace(waits, told=1), RAISED)
    assert standing is not None
    ended = News(standing, what, waits, raised=False)
    assert "not any more since 2026-11-22 12:00 UTC" in by_kind(told([ended], ["b"]))["slack"].text
    end = decide_standing(None, standing, now=NOON + QUIET, first_look=NOON)
    assert end == (None, OVER)


def test_a_pager_rings_for_what_wakes_people_and_until_the_last_of_it_is_over() -> None:
    warning, failing = news("nexus-lag-warning"), news("nexus-db-failed")
    assert "pagerduty" not in by_kind(told([warning]))
    assert by_kind(told([warning, failing]))["pagerduty"].severity == "SEV2"
    over = news("nexus-db-failed", OVER)
    some = told([over], ["nexus-db-other"])
    assert some
    assert "pagerduty" not in by_kind(some), "another of it is raised"
    assert by_kind(some)["slack"].subject == "Over: nexus-db-failed; 1 still raised"
    assert by_kind(told([over], ["nexus-lag-warning"]))["pagerduty"].what == OVER


def test_those_that_last_are_told_as_such_unless_a_new_one_is_among_them() -> None:
    lasting = [news("nexus-a", told=2), news("nexus-b", told=2)]
    assert by_kind(told(lasting))["slack"].subject == "Still raised: nexus-a and 1 more"
    assert by_kind(told([*lasting, news("nexus-c")]))["slack"].subject.startswith("Raised: ")
