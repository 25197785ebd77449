"""When the plan itself is to be reviewed, by the calendar; and what is asked after an incident."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.plan.people import PostIncident
from chalicelib.plan.plan_review import add_months, decide_review, period_after
from chalicelib.plan.questions import asked_after
from chalicelib.plan.schedule import parse_schedule
from chalicelib.plan.upkeep import Review
from leeward.plan_file import load_plan

PLANS = Path(__file__).parents[2] / "policies" / "plans"
HALF = parse_schedule("twice a year")
TODAY = date(2026, 11, 22)


@pytest.mark.parametrize(
    ("day", "months", "expected"),
    [
        (date(2026, 8, 31), 6, date(2027, 2, 28)),
        (date(2027, 8, 31), 6, date(2028, 2, 29)),
        (date(2028, 2, 29), 12, date(2029, 2, 28)),
        (date(2026, 11, 30), 3, date(2027, 2, 28)),
        (date(2026, 1, 31), 1, date(2026, 2, 28)),
        (date(2026, 12, 15), 1, date(2027, 1, 15)),
    ],
)
def test_a_month_later_is_the_same_day_or_the_last_of_a_shorter_month(
    day: date, months: int, expected: date
) -> None:
    assert add_months(day, months) == expected


@given(st.dates(date(2000, 1, 1), date(2100, 1, 1)), st.integers(1, 36))
def test_months_later_is_that_month_whatever_the_day(day: date, months: int) -> None:
    later = add_months(day, months)
    assert later.year * 12 + later.month == day.year * 12 + day.month + months
    assert later.day == day.day or (later + timedelta(days=1)).day == 1


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("monthly", date(2027, 1, 31)),
        ("quarterly", date(2027, 3, 31)),
        ("twice a year", date(2027, 6, 30)),
        ("yearly", date(2027, 12, 31)),
        ("yearly on day 29 Europe/Berlin", date(2027, 12, 31)),
        ("weekly", date(2027, 1, 7)),
        ("every 90 days", date(2027, 3, 31)),
    ],
)
def test_a_period_is_counted_by_the_calendar(words: str, expected: date) -> None:
    assert period_after(date(2026, 12, 31), parse_schedule(words)) == expected


def review(due: str | None = None, every: str | None = None) -> Review:
    return Review(next=due, every=parse_schedule(every) if every else None)


@pytest.mark.parametrize(
    ("plan", "reviewed_on", "standing", "due_on"),
    [
        # Nobody ever said that it was reviewed: the plan's own word counts, if it is a date.
        (review("April 2024", "yearly"), None, "overdue", "2024-04-30"),
        (review("May 2027"), None, "standing", "2027-05-31"),
        (review("$(date -d '+6 months')", "twice a year"), None, "overdue", None),
        (review(), None, "overdue", None),
        # From a review on, the period counts, and an earlier date of the plan's.
        (review("April 2024", "yearly"), date(2026, 1, 31), "standing", "2027-01-31"),
        (review(None, "twice a year"), date(2026, 5, 31), "due soon", "2026-11-30"),
        (review(None, "quarterly"), date(2026, 8, 22), "due soon", "2026-11-22"),
        (review(None, "quarterly"), date(2026, 8, 21), "overdue", "2026-11-21"),
        (review("2026-12-01", "yearly"), date(2026, 11, 1), "due soon", "2026-12-01"),
        (review("2026-11-01"), date(2026, 11, 2), "overdue", None),
    ],
)
def test_a_review_is_due_by_its_period_or_its_date_and_what_is_not_known_is_overdue(
    plan: Review, reviewed_on: date | None, standing: str, due_on: str | None
) -> None:
    found = decide_review(plan, reviewed_on=reviewed_on, today=TODAY)
    assert (found.standing, found.due_on) == (standing, due_on)
    assert found.why


@given(st.dates(date(2020, 1, 1), date(2026, 11, 22)), st.dates(date(2020, 1, 1)))
def test_what_is_overdue_stays_so_until_it_is_reviewed(reviewed_on: date, today: date) -> None:
    plan = review(None, "twice a year")
    found = decide_review(plan, reviewed_on=reviewed_on, today=today)
    tomorrow = decide_review(plan, reviewed_on=reviewed_on, today=today + timedelta(days=1))
    assert found.stands or not tomorrow.stands
    assert decide_review(plan, reviewed_on=today, today=today).stands


def test_the_plans_documents_are_asked_in_their_own_words() -> None:
    nexus = asked_after(load_plan(PLANS / "nexus-studio.yaml").plan.post_incident)
    assert {it.meaning: it.name for it in nexus} == {
        "timeline": "timeline-of-events", "cause": "root-cause-analysis",
        "impact": "impact-details", "lessons": "lessons-learned",
        "improvement": "tool-enhancements", "other": "incident-summary",
        "resolution": "remediation-steps", "compensation": "compensation",
    }  # fmt: skip
    assert [it.name for it in nexus if not it.required] == ["timeline-of-events", "compensation"]
    artist = asked_after(load_plan(PLANS / "artist-tech.yaml").plan.post_incident)
    log = ["Cause", "Impact", "Resolution", "Lessons"]
    assert [it.heading for it in artist][:4] == log


def test_after_a_drill_nobody_needs_to_say_what_customers_were_told() -> None:
    asked = asked_after(PostIncident(report=("Cause",), customer_communication=("Summary",)),
                        drill=True)  # fmt: skip
    assert [it.name for it in asked if it.required] == ["cause"]


def test_headings_of_one_name_are_told_apart() -> None:
    asked = asked_after(PostIncident(report=("Impact", "Impact (details)", "!")))
    assert [it.name for it in asked] == ["impact", "impact-2", "field"]
