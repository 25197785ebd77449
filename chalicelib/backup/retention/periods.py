"""Calendar periods in a time zone: the days, ISO weeks, months and years that retention counts.

A week is ISO 8601's (Monday first, %G-%V), so it never breaks at a new year. A period is the
stretch of instants whose local date lies in it: 23 or 25 hours for a day on which the clock
changes, and nothing for a day that the zone skipped.
"""

from __future__ import annotations

import zoneinfo
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from typing import Literal, get_args

Tier = Literal["daily", "weekly", "monthly", "yearly"]
TIERS: tuple[Tier, ...] = get_args(Tier)
PERIOD_NAMES: dict[Tier, str] = {
    "daily": "day",
    "weekly": "week",
    "monthly": "month",
    "yearly": "year",
}
_DAY = timedelta(days=1)
# A prune a day asks for the same points again: the newest of ten years' periods are some hundred.
_REMEMBERED = 4096


def zone_of(name: str) -> tzinfo:
    """UTC needs no time zone database, which a Lambda may not have."""
    return UTC if name == "UTC" else zoneinfo.ZoneInfo(name)


def first_day(tier: Tier, day: date) -> date:
    """The first day of the period that holds `day`."""
    if tier == "daily":
        return day
    if tier == "weekly":
        return day - day.weekday() * _DAY
    return day.replace(day=1) if tier == "monthly" else day.replace(month=1, day=1)


def later_period(tier: Tier, first: date, number: int) -> date:
    """The first day of the period `number` periods after the one that begins on `first`.

    What lies beyond the calendar (year 9999) ends with it.
    """
    try:
        if tier in ("daily", "weekly"):
            return first + number * (_DAY if tier == "daily" else 7 * _DAY)
        months = first.month - 1 + number * (1 if tier == "monthly" else 12)
        return first.replace(year=first.year + months // 12, month=months % 12 + 1)
    except (OverflowError, ValueError):
        return date.max


def instant(first: date, zone: tzinfo) -> datetime:
    """When a local day begins, in UTC. Where midnight is skipped, the first instant after it."""
    return datetime.combine(first, time(), tzinfo=zone).astimezone(UTC)


@lru_cache(_REMEMBERED)
def period_start(tier: Tier, at: datetime, zone: tzinfo) -> datetime:
    """The first instant, in UTC, of the period that holds `at` (aware)."""
    return instant(first_day(tier, at.astimezone(zone).date()), zone)


def period_end(tier: Tier, at: datetime, zone: tzinfo, *, number: int = 1) -> datetime:
    """The first instant, in UTC, of the period `number` periods after the one that holds `at`."""
    first = first_day(tier, at.astimezone(zone).date())
    return instant(later_period(tier, first, number), zone)


@lru_cache(_REMEMBERED)
def period_label(tier: Tier, at: datetime, zone: tzinfo) -> str:
    """ "2026-11-22", "2026-W47", "2026-11" or "2026"."""
    formats = {"daily": "%Y-%m-%d", "weekly": "%G-W%V", "monthly": "%Y-%m", "yearly": "%Y"}
    return at.astimezone(zone).strftime(formats[tier])
