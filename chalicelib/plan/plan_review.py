"""When the plan itself is to be looked at again.

    reviewed --(a period)--> due --(nobody says that it was reviewed)--> overdue

The period is the plan's `review.every`, counted from the last review: half a year after the 31st of
August is the 28th of February, or the 29th. `review.next`, the owner's own words, counts where it
is a date that comes before. A review of which nobody knows when it was due is overdue: a plan is
not current because nobody wrote down a date.

Pure: reads no clock, calls nothing.
"""

from __future__ import annotations

import calendar
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

from chalicelib.plan.records import Record
from chalicelib.plan.schedule import Schedule
from chalicelib.plan.units import parse_day
from chalicelib.plan.upkeep import Review

ReviewStanding = Literal["standing", "due soon", "overdue"]
SOON = timedelta(days=14)
# The longest time between two firings of a schedule by the calendar -> months.
_MONTHS = ((27, 32, 1), (89, 93, 3), (180, 185, 6), (364, 367, 12))


@dataclass(frozen=True)
class ReviewDue(Record):
    """due_on: the last day for it, "2027-05-31"; None when nothing tells it. why: in words."""

    standing: ReviewStanding
    due_on: str | None
    why: str

    @property
    def stands(self) -> bool:
        return self.standing != "overdue"


def decide_review(review: Review, *, reviewed_on: date | None, today: date) -> ReviewDue:
    """How the plan's review stands.

    Args:
        reviewed_on: the day of the last review that somebody recorded, in the plan's time zone.
        today: in the plan's time zone.
    """
    planned = parse_day(review.next) if review.next else None
    if reviewed_on is None:
        return _first(review, planned, today)
    if planned is not None and planned <= reviewed_on:
        planned = None
    by_period = period_after(reviewed_on, review.every) if review.every else None
    due = min((it for it in (planned, by_period) if it is not None), default=None)
    last = f"last reviewed on {reviewed_on}"
    if due is None:
        return ReviewDue("overdue", None, f"{last}; the plan does not say when again")
    return _by(due, last, today)


def _first(review: Review, planned: date | None, today: date) -> ReviewDue:
    never = "no review is recorded"
    if planned is not None:
        return _by(planned, f"{never}; the plan says {review.next}", today)
    said = f"the plan says {review.next!r}, which is no date" if review.next else "no date is known"
    return ReviewDue("overdue", None, f"{never}, and {said}")


def _by(due: date, why: str, today: date) -> ReviewDue:
    if today > due:
        days = (today - due).days
        late = f"{days} day{'' if days == 1 else 's'} overdue"
        return ReviewDue("overdue", due.isoformat(), f"{late}: {why}")
    standing: ReviewStanding = "due soon" if due - today <= SOON else "standing"
    return ReviewDue(standing, due.isoformat(), why)


def period_after(day: date, every: Schedule) -> date:
    """One period after the day: months by the calendar, other periods by their longest interval."""
    days = every.longest_interval() / timedelta(days=1)
    for least, most, months in _MONTHS:
        if least <= days <= most and not every.is_rate:
            return add_months(day, months)
    return day + every.longest_interval()


def add_months(day: date, months: int) -> date:
    """The same day so many months later, or the last of a shorter month."""
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    last = calendar.monthrange(year, month + 1)[1]
    return date(year, month + 1, min(day.day, last))
