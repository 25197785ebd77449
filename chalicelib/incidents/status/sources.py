"""What the status page is made from: small JSON objects, most written once. Pure.

    said/<incident>/<message id>.json     one update, never changed
    observed/<day>.json                   what was seen of each service, a letter a minute
    maintenance/<id>.json                 planned work; <id>.cancelled.json beside it ends it
    drills/said/<incident>/<id>.json      the same of drills, which the page never shows

Two stacks write, at least once, and may die after any object: nothing is read, changed and written
back but the day, and that only while it is still what was read. The page follows from the set of
these objects alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Literal

from chalicelib.plan.records import Record
from chalicelib.ports.notify import Message

SAID, OBSERVED, MAINTENANCE, OF_DRILLS = "said/", "observed/", "maintenance/", "drills/"
CANCELLED = ".cancelled.json"
MINUTES = 24 * 60
# A minute in which nobody looked, in which the service answered well, in which it did not.
UNSEEN, GOOD, BAD = ".", "u", "d"

State = Literal["investigating", "identified", "monitoring", "resolved"]
STATES: tuple[State, ...] = ("investigating", "identified", "monitoring", "resolved")
# What an occasion says of an incident when nobody said it in words of their own.
STATE_OF: Mapping[str, State] = {
    "opened": "investigating",
    "recovered": "resolved",
    "closed": "resolved",
}


@dataclass(frozen=True)
class Update(Record):
    """Something that was said of an incident to everybody. services: names that it concerns."""

    id: str
    incident: str
    said_at: datetime
    state: str
    severity: str
    title: str
    text: str
    services: tuple[str, ...] = ()


@dataclass(frozen=True)
class Maintenance(Record):
    """Work that was announced. cancelled_at: None while it stands."""

    id: str
    services: tuple[str, ...]
    from_at: datetime
    until_at: datetime
    says: str
    added_at: datetime
    added_by: str
    cancelled_at: datetime | None = None


@dataclass(frozen=True)
class Day(Record):
    """What was seen on a day of UTC. looked_at: the last look. minutes: by service, MINUTES
    letters."""

    date: str
    looked_at: datetime
    minutes: dict[str, str]


@dataclass(frozen=True)
class Sources:
    updates: tuple[Update, ...] = ()
    days: tuple[Day, ...] = ()
    maintenance: tuple[Maintenance, ...] = ()


def update_of(message: Message, services: Iterable[str]) -> Update:
    return Update(
        id=message.id,
        incident=message.incident,
        said_at=message.written_at,
        state=message.state or STATE_OF.get(message.what, "identified"),
        severity=message.severity,
        title=message.subject,
        text=message.text,
        services=tuple(services),
    )


def key_of_update(update: Update, *, drill: bool) -> str:
    return f"{OF_DRILLS if drill else ''}{SAID}{update.incident}/{update.id}.json"


def key_of_day(at: datetime) -> str:
    return f"{OBSERVED}{date_of(at)}.json"


def key_of_maintenance(identity: str) -> str:
    return f"{MAINTENANCE}{identity}.json"


def date_of(at: datetime) -> str:
    return at.astimezone(UTC).date().isoformat()


def note_look(day: Day | None, answers: Mapping[str, bool], *, now: datetime) -> Day:
    """The day with what was seen now; of two looks in one minute the worse one stays.

    Args:
        day: what is known of the day of `now`, None when nothing is.
        answers: by service, those that were asked.
    """
    known = day or Day(date_of(now), now, {})
    minute = minute_of(now)
    minutes = dict(known.minutes)
    for service, good in answers.items():
        letters = minutes.get(service, UNSEEN * MINUTES)
        letter = BAD if not good or letters[minute] == BAD else GOOD
        minutes[service] = letters[:minute] + letter + letters[minute + 1 :]
    return replace(known, looked_at=max(now, known.looked_at), minutes=minutes)


def minute_of(at: datetime) -> int:
    utc = at.astimezone(UTC)
    return utc.hour * 60 + utc.minute


def seen_lately(days: Iterable[Day], service: str, *, now: datetime, minutes: int) -> str:
    """The letters of the last minutes up to `now`, the newest first, those unseen left out."""
    by_date = {day.date: day.minutes.get(service, "") for day in days}
    found = ""
    for back in range(minutes):
        at = now - timedelta(minutes=back)
        letters = by_date.get(date_of(at), "")
        letter = letters[minute_of(at) : minute_of(at) + 1] or UNSEEN
        found += letter.replace(UNSEEN, "")
    return found
