"""Quantities as people write them in a plan, and as plan.json holds them.

    Duration   timedelta    "4h", "90s", "1h30m", "2 days", "PT15M"     JSON: seconds
    Size       int, bytes   "10 GB" (decimal), "5 GiB" (binary)         JSON: bytes
    Rate       int, bytes/s "50 MB/s"                                   JSON: bytes per second
    Share      float, 0..1  "80%"                                       JSON: the fraction
    Quantity   any of these with its unit                               JSON: {"value", "unit"}

A number without a unit is refused where a person writes it (validation context {"written": True})
and is the JSON form elsewhere. Months and years vary in length: here a month is 31 days and a year
366, so that a retention is never shorter than the calendar's.
"""

from __future__ import annotations

import calendar
import re
import zoneinfo
from datetime import date, timedelta
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    ValidationInfo,
    model_validator,
)

_SECONDS = {
    "s": 1,
    "m": 60,
    "h": 3600,
    "d": 86400,
    "w": 7 * 86400,
    "month": 31 * 86400,
    "y": 366 * 86400,
}
_UNIT_NAMES = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), "s"),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), "m"),
    **dict.fromkeys(("h", "hour", "hours"), "h"),
    **dict.fromkeys(("d", "day", "days"), "d"),
    **dict.fromkeys(("w", "week", "weeks"), "w"),
    **dict.fromkeys(("month", "months"), "month"),
    **dict.fromkeys(("y", "year", "years"), "y"),
}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)\s*")
_ISO = re.compile(
    r"P(?:(\d+)Y)?(?:(\d+)M)?(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?"
)
_ISO_UNITS = ("y", "month", "w", "d", "h", "m", "s")
_BYTES: dict[str, int] = {
    prefix + "b": 1000**power for power, prefix in enumerate(("", "k", "m", "g", "t", "p"))
} | {prefix + "ib": 1024**power for power, prefix in enumerate(("k", "m", "g", "t", "p"), start=1)}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)", re.IGNORECASE)
_MONTHS = [name.lower() for name in calendar.month_name]
_MONTH_NAMED = re.compile(rf"({'|'.join(_MONTHS[1:])}) ([12]\d{{3}})")
_MONTH_NUMBERED = re.compile(r"([12]\d{3})-(\d{2})")
_SHARE = re.compile(r"(\d+(?:\.\d+)?)\s*%")


def parse_duration(text: str) -> timedelta:
    """ "1h30m", "90 seconds", "P1DT2H" -> timedelta > 0 or 0. Raises ValueError otherwise."""
    if text.startswith("P"):
        return _parse_iso_duration(text)
    lower = text.strip().lower()
    parts = _PART.findall(lower)
    if not parts or "".join(_PART.sub("", lower).split()):
        raise ValueError("expected a duration such as 90s, 15m, 1h30m or 2 days")
    return _time_span(sum(float(number) * _seconds_of(unit) for number, unit in parts))


def _time_span(seconds: float) -> timedelta:
    try:
        return timedelta(seconds=seconds)
    except OverflowError as error:
        raise ValueError("expected a duration of less than 2.7 million years") from error


def _seconds_of(unit: str) -> int:
    if unit not in _UNIT_NAMES:
        raise ValueError(f"expected a unit of time (s, m, h, d, w, months, years), found {unit!r}")
    return _SECONDS[_UNIT_NAMES[unit]]


def _parse_iso_duration(text: str) -> timedelta:
    match = _ISO.fullmatch(text)
    if match is None or not any(match.groups()) or text.endswith("T"):
        raise ValueError("expected an ISO 8601 duration such as PT15M or P1DT2H")
    numbers = zip(match.groups(), _ISO_UNITS, strict=True)
    return _time_span(sum(float(n) * _SECONDS[unit] for n, unit in numbers if n))


def format_duration(value: timedelta) -> str:
    """timedelta -> "1h 30m"; seconds are dropped above a day, zero is "0s"."""
    seconds = round(value.total_seconds())
    days, rest = divmod(seconds, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    parts = [(days, "d"), (hours, "h"), (minutes, "m"), (0 if days else rest, "s")]
    return " ".join(f"{number}{unit}" for number, unit in parts if number) or f"{rest}s"


def parse_size(text: str) -> int:
    """ "10 GB" -> 10**10 bytes, "5 GiB" -> 5 * 2**30. Raises ValueError otherwise."""
    match = _SIZE.fullmatch(text.strip())
    if match is None or match[2].lower() not in _BYTES:
        raise ValueError("expected a size such as 500 MB, 10 GB or 5 GiB")
    number, unit = float(match[1]), match[2].lower()
    if number > 1e12:
        raise ValueError("expected a size of at most 12 digits and a larger unit")
    return round(number * _BYTES[unit])


def format_size(value: int) -> str:
    """Bytes -> "10 GB", decimal, at most one digit after the point."""
    number, unit = float(value), "B"
    for larger in ("kB", "MB", "GB", "TB", "PB"):
        if number < 1000:
            break
        number, unit = number / 1000, larger
    return f"{number:.1f}".removesuffix(".0") + f" {unit}"


def parse_rate(text: str) -> int:
    """ "50 MB/s" -> bytes per second. Raises ValueError otherwise."""
    if not text.endswith("/s"):
        raise ValueError("expected a rate such as 50 MB/s")
    return parse_size(text.removesuffix("/s"))


def parse_share(text: str) -> float:
    """ "80%" -> 0.8. Raises ValueError outside 0 % to 100 %."""
    match = _SHARE.fullmatch(text.strip())
    if match is None or float(match[1]) > 100:
        raise ValueError("expected a share from 0% to 100%, such as 99.9%")
    return round(float(match[1]) / 100, 12)


def format_share(value: float) -> str:
    """0.999 -> "99.9%"."""
    return f"{round(value * 100, 10):g}%"


def parse_day(text: str) -> date | None:
    """ "2024-04-30", "2024-04" or "April 2024" -> the day, the last one of a month; else None."""
    words = text.strip().lower()
    try:
        if match := _MONTH_NAMED.fullmatch(words):
            return _last_day(int(match[2]), _MONTHS.index(match[1]))
        if match := _MONTH_NUMBERED.fullmatch(words):
            return _last_day(int(match[1]), int(match[2]))
        return date.fromisoformat(words)
    except ValueError:
        return None


def _last_day(year: int, month: int) -> date:
    return date(year, month, calendar.monthrange(year, month)[1])


def _is_number(value: Any, info: ValidationInfo) -> bool:
    written = bool(info.context and info.context.get("written"))
    return isinstance(value, int | float) and not isinstance(value, bool) and not written


def _text(value: Any, example: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected a text with a unit, such as {example}")
    return value


def _read_duration(value: Any, info: ValidationInfo) -> timedelta:
    if isinstance(value, timedelta):
        return value
    if _is_number(value, info):
        return _time_span(value)
    return parse_duration(_text(value, "15m"))


def _read_size(value: Any, info: ValidationInfo) -> int:
    return int(value) if _is_number(value, info) else parse_size(_text(value, "10 GB"))


def _read_rate(value: Any, info: ValidationInfo) -> int:
    return int(value) if _is_number(value, info) else parse_rate(_text(value, "50 MB/s"))


def _read_share(value: Any, info: ValidationInfo) -> float:
    return float(value) if _is_number(value, info) else parse_share(_text(value, "80%"))


def seconds_of(value: timedelta) -> int | float:
    """Whole seconds as an int, so that JSON shows 300 and not 300.0."""
    seconds = value.total_seconds()
    return int(seconds) if seconds.is_integer() else seconds


def known_zone(name: str) -> str:
    """The name itself. Raises ValueError when there is no such IANA time zone."""
    try:
        return zoneinfo.ZoneInfo(name).key
    except (zoneinfo.ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError(
            f"expected an IANA time zone such as UTC or Europe/Berlin, found {name!r}"
        ) from error


Duration = Annotated[timedelta, BeforeValidator(_read_duration), PlainSerializer(seconds_of)]
Size = Annotated[int, BeforeValidator(_read_size)]
Rate = Annotated[int, BeforeValidator(_read_rate)]
Share = Annotated[float, BeforeValidator(_read_share)]

Unit = Literal["seconds", "bytes", "share", "count"]


class Parsed(NamedTuple):
    value: float
    unit: Unit


def parse_quantity(text: str) -> Parsed:
    """ "5 min", "80%", "10 GB" or "3" -> value and unit. Raises ValueError for anything else."""
    readers: tuple[tuple[Unit, Any], ...] = (
        ("share", parse_share),
        ("bytes", parse_size),
        ("seconds", lambda words: seconds_of(parse_duration(words))),
        ("count", _parse_count),
    )
    for unit, read in readers:
        try:
            return Parsed(read(text), unit)
        except ValueError:
            continue
    raise ValueError("expected an amount with its unit, such as 5 min, 80% or 10 GB")


def _parse_count(text: str) -> float:
    if not re.fullmatch(r"\d{1,15}(\.\d+)?", text):
        raise ValueError("expected a number")
    return float(text)


class Quantity(BaseModel):
    """An amount of whatever a metric is measured in."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float
    unit: Unit

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, data: Any) -> Any:
        if isinstance(data, str):
            return parse_quantity(data)._asdict()
        if isinstance(data, int | float) and not isinstance(data, bool):
            return {"value": data, "unit": "count"}
        return data

    def __str__(self) -> str:
        if self.unit == "seconds":
            return format_duration(timedelta(seconds=self.value))
        if self.unit == "bytes":
            return format_size(int(self.value))
        return format_share(self.value) if self.unit == "share" else f"{self.value:g}"
