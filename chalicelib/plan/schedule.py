"""When something recurs: EventBridge's cron and rate expressions, and plain words for them.

    cron(0 2 * * ? *)                    rate(5 minutes)
    every 5 minutes                      hourly at :15
    daily at 02:00                       weekdays at 02:00
    weekly on sunday at 03:00            monthly on day 1 at 03:00
    quarterly on day 1 at 03:00          twice a year on day 1 at 03:00
    yearly on day 1 at 03:00
Words may stop early ("daily", "monthly on day 1"): the time is then 00:00, the day the first, the
day of the week Sunday. A time zone may follow ("daily at 02:00 Europe/Berlin"); without one it is
UTC. A schedule never ends: the year field of a cron expression is `*`.

Source: Amazon EventBridge Scheduler user guide, "Schedule types" (six cron fields, 1 = Sunday) and
"Daylight saving time" (a local time that does not exist is skipped, one that occurs twice fires
once).
"""

from __future__ import annotations

import calendar
import re
import zoneinfo
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from itertools import pairwise
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from chalicelib.plan.units import known_zone

_DAY = timedelta(days=1)
_MONTH_NAMES = {name.upper(): number for number, name in enumerate(calendar.month_abbr) if name}
_DAY_NAMES = {
    name: number for number, name in enumerate(("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"), 1)
}


@dataclass(frozen=True)
class Schedule:
    """A recurrence; equal when expression and time zone are. Made by `parse_schedule`."""

    expression: str
    time_zone: str = "UTC"

    def __str__(self) -> str:
        return self.expression if self.time_zone == "UTC" else f"{self.expression} {self.time_zone}"

    def to_eventbridge(self) -> str:
        """The ScheduleExpression; its ScheduleExpressionTimezone is `time_zone`."""
        return self.expression

    @property
    def is_rate(self) -> bool:
        return self.expression.startswith("rate(")

    @property
    def has_clock_changes(self) -> bool:
        """True when its zone has summer time (as of 2026)."""
        zone = _zone(self.time_zone)
        noons = (
            datetime(year, month, 1, 12, tzinfo=zone)
            for year in (2026, 2027)
            for month in range(1, 13)
        )
        return len({noon.utcoffset() for noon in noons}) > 1

    def longest_interval(self) -> timedelta:
        """The longest time that ever passes between two firings, clock changes included."""
        return _longest_interval(self.expression, self.time_zone)

    def next_after(self, at: datetime) -> datetime:
        """The first firing later than `at` (aware), in UTC.

        A rate has no place on the clock: its next firing is one interval after `at`.
        """
        return next(self.firings_after(at))

    def firings_after(self, after: datetime) -> Iterator[datetime]:
        """Every firing later than `after` (aware), in UTC, in order, without end."""
        if self.is_rate:
            yield from _repeat(after.astimezone(UTC), _rate_interval(self.expression))
            return
        zone = _zone(self.time_zone)
        cron = _read_cron(self.expression)
        day = after.astimezone(zone).date() - _DAY
        while True:
            if cron.fires_on(day):
                yield from (at for at in _firings_on(day, cron.times, zone) if at > after)
            day += _DAY

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        text = core_schema.no_info_after_validator_function(
            parse_schedule, core_schema.str_schema()
        )
        made = core_schema.union_schema([core_schema.is_instance_schema(cls), text])
        write = core_schema.plain_serializer_function_ser_schema(str)
        return core_schema.json_or_python_schema(text, made, serialization=write)


def _repeat(start: datetime, interval: timedelta) -> Iterator[datetime]:
    while True:
        start += interval
        yield start


@dataclass(frozen=True)
class _Cron:
    """A cron expression taken apart: when on a firing day, and which days those are."""

    times: tuple[time, ...]
    months: frozenset[int]
    day_rule: Callable[[date], bool]

    @property
    def edges(self) -> tuple[time, time]:
        return self.times[0], self.times[-1]

    def fires_on(self, day: date) -> bool:
        return day.month in self.months and self.day_rule(day)


@lru_cache(maxsize=256)
def _longest_interval(expression: str, time_zone: str) -> timedelta:
    if expression.startswith("rate("):
        return _rate_interval(expression)
    zone = _zone(time_zone)
    longest, previous = timedelta(0), None
    for firings, complete in _observed_days(_read_cron(expression), zone):
        gaps = [later - earlier for earlier, later in pairwise(firings)] if complete else []
        if previous is not None:
            gaps.append(firings[0] - previous)
        longest = max(longest, *gaps, timedelta(0))
        previous = firings[-1]
    return longest


def _observed_days(cron: _Cron, zone: tzinfo) -> Iterator[tuple[list[datetime], bool]]:
    """Each firing day's firings, in order, and whether these are all of them.

    Complete are the first day and those on which the clock changes; of each other day the first
    and the last firing are enough, since the gaps within it are those of the first day.
    """
    complete = True
    for day in filter(cron.fires_on, _observed_calendar()):
        complete = complete or _clock_changes_on(day, zone)
        firings = _firings_on(day, cron.times if complete else cron.edges, zone)
        if firings:
            yield firings, complete
        complete = False


def _observed_calendar() -> Iterator[date]:
    """Twelve years of days: three leap days, and each weekday on most days of the year."""
    return (date(2024, 1, 1) + number * _DAY for number in range(12 * 365 + 3))


def _clock_changes_on(day: date, zone: tzinfo) -> bool:
    return zone is not UTC and _offset(day, zone) != _offset(day + _DAY, zone)


def _zone(name: str) -> tzinfo:
    """UTC needs no time zone database, which a Lambda may not have."""
    return UTC if name == "UTC" else zoneinfo.ZoneInfo(name)


def _offset(day: date, zone: tzinfo) -> timedelta | None:
    return datetime.combine(day, time(), tzinfo=zone).utcoffset()


def _firings_on(day: date, times: Iterable[time], zone: tzinfo) -> list[datetime]:
    found = {at for clock in times if (at := _instant(day, clock, zone)) is not None}
    return sorted(found)


def _instant(day: date, clock: time, zone: tzinfo) -> datetime | None:
    """The first instant that shows this local time, or None in the hour that is skipped."""
    at = datetime.combine(day, clock, tzinfo=zone).astimezone(UTC)
    return at if at.astimezone(zone).time() == clock else None


def parse_schedule(text: str) -> Schedule:
    """An expression or words, with or without a time zone -> Schedule.

    Raises:
        ValueError: not a schedule, or one that never fires.
    """
    words, zone = _split_zone(text.strip())
    expression = words if "(" in words else _from_words(words.lower())
    schedule = Schedule(" ".join(expression.split()), zone)
    if schedule.is_rate:
        _rate_interval(schedule.expression)
    elif not any(map(_read_cron(schedule.expression).fires_on, _observed_calendar())):
        raise ValueError(f"expected a schedule that keeps firing, found {text!r}")
    return schedule


def _split_zone(text: str) -> tuple[str, str]:
    words, _, last = text.rpartition(" ")
    if words and (last == "UTC" or "/" in last and last[0].isalpha() and not text.endswith(")")):
        return words, last if last == "UTC" else known_zone(last)
    return text, "UTC"


_RATE = re.compile(r"rate\((\d+) (minute|hour|day)s?\)")
_EVERY = re.compile(r"every(?: (\d+))? (minute|hour|day)s?")
_HOURLY = re.compile(r"hourly(?: at :(\d\d))?")
_CLOCK = r"(?: at (\d{1,2}):(\d{2}))?"
_DAILY = re.compile(rf"(daily|weekdays){_CLOCK}")
_WEEKLY = re.compile(rf"weekly(?: on (sun|mon|tues?|wednes|thurs?|fri|satur)(?:day)?)?{_CLOCK}")
_MONTHLY = re.compile(
    rf"(monthly|quarterly|twice a year|yearly)(?: on day (\d{{1,2}}|last))?{_CLOCK}"
)
_MONTHS_OF = {"monthly": "*", "quarterly": "1,4,7,10", "twice a year": "1,7", "yearly": "1"}


def _rate_interval(expression: str) -> timedelta:
    match = _RATE.fullmatch(expression)
    if match is None or not 0 < int(match[1]) <= 10_000_000:
        raise ValueError("expected a rate such as rate(5 minutes), rate(1 hour) or rate(1 day)")
    return timedelta(**{match[2] + "s": int(match[1])})


def _from_words(words: str) -> str:
    if match := _EVERY.fullmatch(words):
        number = int(match[1] or 1)
        return f"rate({number} {match[2]}{'' if number == 1 else 's'})"
    if match := _HOURLY.fullmatch(words):
        return f"cron({int(match[1] or 0)} * * * ? *)"
    if match := _DAILY.fullmatch(words):
        days = "* * ?" if match[1] == "daily" else "? * MON-FRI"
        return f"cron({_clock(match[2], match[3])} {days} *)"
    if match := _WEEKLY.fullmatch(words):
        return f"cron({_clock(match[2], match[3])} ? * {(match[1] or 'sun')[:3].upper()} *)"
    if match := _MONTHLY.fullmatch(words):
        day = "L" if match[2] == "last" else match[2] or "1"
        return f"cron({_clock(match[3], match[4])} {day} {_MONTHS_OF[match[1]]} ? *)"
    raise ValueError(
        "expected a schedule such as daily at 02:00, every 5 minutes or cron(0 2 * * ? *)"
    )


def _clock(hour: str | None, minute: str | None) -> str:
    return f"{int(minute or 0)} {int(hour or 0)}"


@lru_cache(maxsize=256)
def _read_cron(expression: str) -> _Cron:
    fields = expression.removeprefix("cron(").removesuffix(")").split()
    if not expression.startswith("cron(") or not expression.endswith(")") or len(fields) != 6:
        raise ValueError(
            "expected cron(minute hour day-of-month month day-of-week year), "
            "such as cron(0 2 * * ? *)"
        )
    minute, hour, month_day, month, week_day, year = (field.upper() for field in fields)
    if year != "*":
        raise ValueError("expected * as the year: a schedule of a plan does not end")
    if (month_day == "?") == (week_day == "?"):
        raise ValueError("expected ? in one of day-of-month and day-of-week, and only in one")
    times = [
        time(h, m) for h in sorted(_values(hour, 0, 23)) for m in sorted(_values(minute, 0, 59))
    ]
    rule = _month_day_rule(month_day) if week_day == "?" else _week_day_rule(week_day)
    return _Cron(tuple(times), frozenset(_values(month, 1, 12, _MONTH_NAMES)), rule)


def _values(field: str, low: int, high: int, names: dict[str, int] | None = None) -> set[int]:
    """ "1-5,10/15" -> the numbers it stands for, each within low..high."""
    return {number for part in field.split(",") for number in _part(part, low, high, names or {})}


def _part(part: str, low: int, high: int, names: dict[str, int]) -> Iterable[int]:
    span, slash, step_text = part.partition("/")
    first_text, dash, last_text = span.partition("-")
    if span == "*":
        first, last = low, high
    else:
        first = _number(first_text, low, high, names)
        last = _number(last_text, low, high, names) if dash else high if slash else first
    step = _number(step_text, 1, high, {}) if slash else 1
    if first <= last:
        return range(first, last + 1, step)
    return [*range(first, high + 1, step), *range(low, last + 1, step)]


def _number(text: str, low: int, high: int, names: dict[str, int]) -> int:
    number = names.get(text, int(text) if text.isascii() and text.isdigit() else -1)
    if not low <= number <= high:
        raise ValueError(
            f"expected a number from {low} to {high} in the cron field, found {text!r}"
        )
    return number


def _month_day_rule(field: str) -> Callable[[date], bool]:
    if field == "L":
        return lambda day: day.day == _days_in_month(day)
    if field == "LW":
        return lambda day: day.day == _nearest_weekday(day, _days_in_month(day))
    if field.endswith("W"):
        wanted = _number(field[:-1], 1, 31, {})
        return lambda day: (
            wanted <= _days_in_month(day) and day.day == _nearest_weekday(day, wanted)
        )
    days = _values(field, 1, 31)
    return lambda day: day.day in days


def _week_day_rule(field: str) -> Callable[[date], bool]:
    if field == "L":
        return lambda day: _cron_weekday(day) == 7
    if field.endswith("L"):
        last = _number(field[:-1], 1, 7, _DAY_NAMES)
        return lambda day: _cron_weekday(day) == last and day.day + 7 > _days_in_month(day)
    if "#" in field:
        name, _, nth = field.partition("#")
        wanted, week = _number(name, 1, 7, _DAY_NAMES), _number(nth, 1, 5, {})
        return lambda day: _cron_weekday(day) == wanted and (day.day - 1) // 7 + 1 == week
    days = _values(field, 1, 7, _DAY_NAMES)
    return lambda day: _cron_weekday(day) in days


def _cron_weekday(day: date) -> int:
    return day.isoweekday() % 7 + 1


def _days_in_month(day: date) -> int:
    return calendar.monthrange(day.year, day.month)[1]


def _nearest_weekday(day: date, wanted: int) -> int:
    """The day of the month nearest to `wanted` that is Monday to Friday, in the same month."""
    weekday = date(day.year, day.month, wanted).isoweekday()
    if weekday == 6:
        return wanted - 1 if wanted > 1 else wanted + 2
    if weekday == 7:
        return wanted + 1 if wanted < _days_in_month(day) else wanted - 2
    return wanted
