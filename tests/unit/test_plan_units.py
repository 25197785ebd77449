"""Quantities and schedules: what people write, what they mean, and that JSON keeps it."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from chalicelib.plan.schedule import Schedule, parse_schedule
from chalicelib.plan.units import (
    Duration,
    Quantity,
    Rate,
    Share,
    Size,
    format_duration,
    format_share,
    format_size,
    known_zone,
    parse_day,
    parse_duration,
    parse_share,
    parse_size,
)


class Amounts(BaseModel):
    duration: Duration = timedelta(0)
    size: Size = 0
    rate: Rate = 0
    share: Share = 0.0
    quantity: Quantity = Quantity(value=0, unit="count")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("4h", 14400),
        ("90s", 90),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("30 minutes", 1800),
        ("1.5 hours", 5400),
        ("2 Days", 172800),
        ("1 week", 604800),
        ("PT15M", 900),
        ("P1DT2H", 93600),
        ("7 years", 7 * 366 * 86400),
        ("2 months", 2 * 31 * 86400),
        ("0m", 0),
    ],
)
def test_duration_in_words(text: str, seconds: int) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text", ["", "4", "h", "4 parsecs", "-4h", "4h!", "P", "PT", "P1H", "9" * 40 + "y", "٤ h and"]
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_duration(text)


@given(st.integers(0, 10**7))
def test_duration_survives_being_written(minutes: int) -> None:
    duration = timedelta(minutes=minutes)

    assert parse_duration(format_duration(duration)) == duration


@given(
    st.timedeltas(timedelta(0), timedelta(days=4000)),
    st.integers(0, 2**60),
    st.floats(0, 1),
    st.floats(0, 1e9),
)
def test_amounts_survive_json(duration: timedelta, size: int, share: float, value: float) -> None:
    amounts = Amounts(
        duration=duration,
        size=size,
        rate=size,
        share=share,
        quantity=Quantity(value=value, unit="seconds"),
    )

    again = Amounts.model_validate_json(amounts.model_dump_json())

    assert abs(again.duration - duration) <= timedelta(microseconds=1)
    assert again.model_copy(update={"duration": duration}) == amounts


@given(st.integers(0, 999), st.sampled_from(["kB", "MB", "GB", "TB"]))
def test_size_survives_being_written(number: int, unit: str) -> None:
    size = parse_size(f"{number} {unit}")

    assert parse_size(format_size(size)) == size


@given(st.integers(0, 100_000))
def test_share_survives_being_written(thousandths: int) -> None:
    share = parse_share(f"{thousandths / 1000}%")

    assert parse_share(format_share(share)) == share


@pytest.mark.parametrize("text", ["", "10", "GB", "10 XB", "-1 GB", "9" * 400 + " GB", "inf GB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_size(text)


@pytest.mark.parametrize("text", ["", "nan", "inf", "-1", "101%", "9" * 400, "many"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="expected an amount"):
        Quantity.model_validate(text)


def test_decimal_and_binary_sizes_differ() -> None:
    assert (parse_size("10 GB"), parse_size("5 GiB")) == (10**10, 5 * 2**30)


@pytest.mark.parametrize("number", [4, 4.5, True])
def test_a_person_has_to_write_the_unit(number: float) -> None:
    with pytest.raises(ValidationError, match="with a unit"):
        Amounts.model_validate({"duration": number}, context={"written": True})


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("5 min", "seconds", 300),
        ("80%", "share", 0.8),
        ("10 GB", "bytes", 10**10),
        ("3", "count", 3),
    ],
)
def test_quantity_knows_its_unit(text: str, unit: str, value: float) -> None:
    quantity = Quantity.model_validate(text)

    assert (quantity.unit, quantity.value) == (unit, value)


def test_time_zones_are_of_the_database() -> None:
    assert known_zone("Europe/Berlin") == "Europe/Berlin"
    with pytest.raises(ValueError, match="IANA"):
        known_zone("Europe/Berln")


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("April 2024", date(2024, 4, 30)),
        ("2024-02", date(2024, 2, 29)),
        ("2024-01-15", date(2024, 1, 15)),
        ("$(date)", None),
        ("2024-13", None),
        ("soon", None),
    ],
)
def test_days_as_people_write_them(text: str, day: date | None) -> None:
    assert parse_day(text) == day


HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.mark.parametrize(
    ("text", "expression", "longest"),
    [
        ("every 5 minutes", "rate(5 minutes)", timedelta(minutes=5)),
        ("every hour", "rate(1 hour)", HOUR),
        ("hourly at :15", "cron(15 * * * ? *)", HOUR),
        ("daily at 02:00", "cron(0 2 * * ? *)", DAY),
        ("weekdays at 9:30", "cron(30 9 ? * MON-FRI *)", 3 * DAY),
        ("weekly on thursday at 03:00", "cron(0 3 ? * THU *)", 7 * DAY),
        ("monthly on day last at 03:00", "cron(0 3 L * ? *)", 31 * DAY),
        ("quarterly", "cron(0 0 1 1,4,7,10 ? *)", 92 * DAY),
        ("twice a year", "cron(0 0 1 1,7 ? *)", 184 * DAY),
        ("yearly", "cron(0 0 1 1 ? *)", 366 * DAY),
        ("cron(0/15 * * * ? *)", "cron(0/15 * * * ? *)", HOUR / 4),
        ("cron(0 22,4 * * ? *)", "cron(0 22,4 * * ? *)", 18 * HOUR),
        ("cron(0 8 ? * 2#1 *)", "cron(0 8 ? * 2#1 *)", 35 * DAY),
        ("cron(0 8 ? * 6L *)", "cron(0 8 ? * 6L *)", 35 * DAY),
        ("cron(0 0 29 2 ? *)", "cron(0 0 29 2 ? *)", 1461 * DAY),
        ("cron(0 0 1-31/10 * ? *)", "cron(0 0 1-31/10 * ? *)", 10 * DAY),
    ],
)
def test_schedule_in_words_and_its_longest_interval(
    text: str, expression: str, longest: timedelta
) -> None:
    schedule = parse_schedule(text)

    assert schedule.to_eventbridge() == expression
    assert schedule.longest_interval() == longest
    assert parse_schedule(str(schedule)) == schedule


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sometimes",
        "daily at 25:00",
        "daily at 02:00 Europe/Berln",
        "cron(* * * * * *)",
        "cron(0 0 ? * ? *)",
        "cron(0 0 30 2 ? *)",
        "cron(0 0 1 1 ? 2026)",
        "cron(0 0 * *)",
        "cron(60 0 * * ? *)",
        "rate(0 minutes)",
        "rate(5 fortnights)",
        "monthly on day 32",
    ],
)
def test_what_is_no_schedule_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_schedule(text)


def test_summer_time_lengthens_a_day_and_skips_a_run() -> None:
    assert parse_schedule("daily at 12:00 Europe/Berlin").longest_interval() == 25 * HOUR
    assert parse_schedule("daily at 02:30 Europe/Berlin").longest_interval() == 47 * HOUR
    assert parse_schedule("daily at 12:00 Asia/Tokyo").longest_interval() == DAY


def test_a_run_in_the_hour_that_does_not_exist_is_skipped() -> None:
    schedule = parse_schedule("daily at 02:30 Europe/Berlin")
    before = datetime(2026, 3, 28, 12, 0, tzinfo=UTC)

    assert schedule.next_after(before) == datetime(2026, 3, 30, 0, 30, tzinfo=UTC)


def test_a_run_in_the_hour_that_comes_twice_happens_once() -> None:
    schedule = parse_schedule("daily at 02:30 Europe/Berlin")
    firings = list(islice(schedule.firings_after(datetime(2026, 10, 24, 12, 0, tzinfo=UTC)), 2))

    assert firings[0] == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    assert firings[1] == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)


@settings(deadline=None, max_examples=25)
@given(
    st.sets(st.integers(0, 59), min_size=1, max_size=3),
    st.sets(st.integers(0, 23), min_size=1, max_size=3),
    st.sampled_from(["* * ?", "1,15 * ?", "? * MON,THU", "L * ?", "? 3 SUN"]),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"]),
    st.integers(0, 3 * 365 * 24 * 60),
)
def test_firings_are_where_the_expression_says_and_never_further_apart(
    minutes: set[int], hours: set[int], days: str, zone: str, minutes_in: int
) -> None:
    fields = f"{','.join(map(str, minutes))} {','.join(map(str, hours))} {days} *"
    schedule = Schedule(f"cron({fields})", zone)

    start = datetime(2025, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes_in)
    firings = list(islice(schedule.firings_after(start), 8))

    local = [at.astimezone(ZoneInfo(zone)) for at in firings]
    assert all(at.minute in minutes and at.hour in hours for at in local)
    gaps = [later - earlier for earlier, later in pairwise(firings)]
    assert all(timedelta(0) < gap <= schedule.longest_interval() for gap in gaps)
