"""The status page as values: what is shown, from what lies in its bucket. Pure, without a clock.

The page speaks of the moment of the last look (`confirmed_at`), or of what was said last when that
is later: two writers who read the same objects make the same bytes. Nothing is green that was not
seen to be: a service that nobody looked at is unknown, and so is a page without a look.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import groupby

from chalicelib.incidents.status.sources import (
    BAD,
    GOOD,
    MINUTES,
    Day,
    Maintenance,
    Sources,
    Update,
    date_of,
    minute_of,
    seen_lately,
)

HISTORY_DAYS = 90
# The look comes each minute; a page that missed this many is not confirmed any more.
STALE_AFTER = timedelta(minutes=5)
# How many looks decide whether a service is down, or answers now and then.
LOOKS = 3
# From here on a day's bar is the short one: what most people would have noticed.
MUCH_MINUTES = 30
PAST_ON_FRONT = timedelta(days=14)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The worst first; what explains it stands beside it on the page.
RANK = ("disrupted", "degraded", "unknown", "maintenance", "operational")
MAJOR = ("SEV1", "SEV2")


@dataclass(frozen=True)
class Shown:
    """What the plan says of the page. services: titles by name. address: "" when not known."""

    plan: str
    organisation: str
    services: Mapping[str, str]
    address: str = ""


@dataclass(frozen=True)
class IncidentShown:
    """An incident with all that was said, the newest first. resolved_at: None while it goes on."""

    id: str
    title: str
    state: str
    severity: str
    services: tuple[str, ...]
    updates: tuple[Update, ...]
    opened_at: datetime
    resolved_at: datetime | None

    @property
    def updated_at(self) -> datetime:
        return self.updates[0].said_at


@dataclass(frozen=True)
class WorkShown:
    """state: "scheduled", "in progress", "done" or "cancelled"."""

    work: Maintenance
    state: str


@dataclass(frozen=True)
class DayShown:
    """level: "good", "some", "much" or "unknown". good, bad, unseen: minutes."""

    date: str
    level: str
    good: int
    bad: int
    unseen: int
    incidents: int


@dataclass(frozen=True)
class ServiceShown:
    """uptime: the share of looks that were good, None when there was none. seen: the share of the
    minutes since the first look in which somebody looked."""

    name: str
    title: str
    state: str
    why: str
    uptime: float | None
    seen: float
    days: tuple[DayShown, ...]


@dataclass(frozen=True)
class Page:
    """confirmed_at: the last look, None when there was none."""

    shown: Shown
    state: str
    confirmed_at: datetime | None
    services: tuple[ServiceShown, ...]
    open: tuple[IncidentShown, ...]
    past: tuple[IncidentShown, ...]
    work: tuple[WorkShown, ...]
    drill: bool = False
    recent: tuple[IncidentShown, ...] = field(default=())

    @property
    def stale_after(self) -> datetime | None:
        return self.confirmed_at + STALE_AFTER if self.confirmed_at else None

    @property
    def incidents(self) -> tuple[IncidentShown, ...]:
        return (*self.open, *self.past)


def make_page(shown: Shown, sources: Sources, *, drill: bool = False) -> Page:
    """The page that follows from the sources, in whatever order they were read."""
    confirmed_at = max((day.looked_at for day in sources.days), default=None)
    moments = [update.said_at for update in sources.updates]
    moments += [confirmed_at] if confirmed_at else []
    now = max(moments, default=EPOCH)
    incidents = tuple(_incidents(sources.updates))
    going_on = tuple(it for it in incidents if it.resolved_at is None)
    past = tuple(it for it in incidents if it.resolved_at is not None)
    work = tuple(_work(sources.maintenance, now))
    services = tuple(
        _service(name, title, sources.days, incidents, work, now, confirmed_at)
        for name, title in shown.services.items()
    )
    return Page(
        shown=shown,
        state=_overall(services, going_on),
        confirmed_at=confirmed_at,
        services=services,
        open=going_on,
        past=past,
        work=work,
        drill=drill,
        recent=tuple(it for it in past if now - it.updated_at <= PAST_ON_FRONT),
    )


def _incidents(updates: tuple[Update, ...]) -> Iterator[IncidentShown]:
    """The one that began last first. The same words of one moment, said to several, once."""
    by_incident = sorted(set(updates), key=lambda it: (it.incident, it.said_at, it.id))
    made = []
    for incident, group in groupby(by_incident, key=lambda it: it.incident):
        said = list({(it.said_at, it.state, it.text): it for it in group}.values())
        first, last = said[0], said[-1]
        named = {name for it in said for name in it.services}
        made.append(
            IncidentShown(
                id=incident,
                title=first.title,
                state=last.state,
                severity=last.severity,
                services=tuple(sorted(named)),
                updates=tuple(reversed(said)),
                opened_at=first.said_at,
                resolved_at=last.said_at if last.state == "resolved" else None,
            )
        )
    yield from sorted(made, key=lambda it: (it.opened_at, it.id), reverse=True)


def _work(maintenance: tuple[Maintenance, ...], now: datetime) -> Iterator[WorkShown]:
    """What is to come in its order, then what is over, the last first."""
    for it in sorted(set(maintenance), key=lambda it: (it.from_at, it.id)):
        yield WorkShown(it, _state_of(it, now))


def _state_of(work: Maintenance, now: datetime) -> str:
    if work.cancelled_at is not None:
        return "cancelled"
    if now >= work.until_at:
        return "done"
    return "in progress" if now >= work.from_at else "scheduled"


def _service(
    name: str,
    title: str,
    days: tuple[Day, ...],
    incidents: tuple[IncidentShown, ...],
    work: tuple[WorkShown, ...],
    now: datetime,
    confirmed_at: datetime | None,
) -> ServiceShown:
    concerning = tuple(it for it in incidents if name in it.services)
    state, why = _state(name, days, concerning, work, now)
    shown = tuple(_days(name, days, concerning, now)) if confirmed_at or incidents else ()
    good, bad = sum(it.good for it in shown), sum(it.bad for it in shown)
    elapsed = _minutes_since_first(shown)
    return ServiceShown(
        name=name,
        title=title,
        state=state,
        why=why,
        uptime=good / (good + bad) if good + bad else None,
        seen=(good + bad) / elapsed if elapsed else 0.0,
        days=shown,
    )


def _minutes_since_first(days: tuple[DayShown, ...]) -> int:
    """Of the days since the first one on which anybody looked."""
    first = next((number for number, it in enumerate(days) if it.good + it.bad), len(days))
    return sum(it.good + it.bad + it.unseen for it in days[first:])


def _state(
    name: str,
    days: tuple[Day, ...],
    incidents: tuple[IncidentShown, ...],
    work: tuple[WorkShown, ...],
    now: datetime,
) -> tuple[str, str]:
    """The worst of what was seen and what was said, and why in a few words."""
    seen, why = _seen(name, days, now)
    planned = any(it.state == "in progress" and name in it.work.services for it in work)
    if planned and seen != "unknown":
        seen, why = "maintenance", "planned work is in progress"
    said = [_of_incident(it) for it in incidents if it.resolved_at is None]
    return min([(seen, why), *said], key=lambda it: RANK.index(it[0]))


def _seen(name: str, days: tuple[Day, ...], now: datetime) -> tuple[str, str]:
    minutes = int(STALE_AFTER.total_seconds() // 60)
    lately = seen_lately(days, name, now=now, minutes=minutes)[:LOOKS]
    if not lately:
        return "unknown", "nobody could look at it lately"
    if BAD not in lately:
        return "operational", "it answers"
    if GOOD not in lately:
        return "disrupted", "it does not answer"
    return "degraded", "it does not always answer"


def _of_incident(incident: IncidentShown) -> tuple[str, str]:
    mended = incident.state == "monitoring"
    state = "disrupted" if incident.severity in MAJOR and not mended else "degraded"
    return state, f"an incident is {incident.state}"


def _days(
    name: str, days: tuple[Day, ...], incidents: tuple[IncidentShown, ...], now: datetime
) -> Iterator[DayShown]:
    """HISTORY_DAYS of them, today the last."""
    by_date = {day.date: day.minutes.get(name, "") for day in days}
    today = now.astimezone(UTC).date()
    for back in range(HISTORY_DAYS - 1, -1, -1):
        on = today - timedelta(days=back)
        elapsed = minute_of(now) + 1 if on == today else MINUTES
        yield _day(on, by_date.get(on.isoformat(), ""), elapsed, incidents)


def _day(on: date, letters: str, elapsed: int, incidents: tuple[IncidentShown, ...]) -> DayShown:
    good, bad = letters.count(GOOD), letters.count(BAD)
    text = on.isoformat()
    concerned = sum(date_of(it.opened_at) <= text <= _last_day(it) for it in incidents)
    if bad >= MUCH_MINUTES:
        level = "much"
    elif bad or concerned:
        level = "some"
    else:
        # A day that was mostly not looked at proves nothing.
        level = "good" if good * 2 > elapsed else "unknown"
    return DayShown(text, level, good, bad, max(elapsed - good - bad, 0), concerned)


def _last_day(incident: IncidentShown) -> str:
    """After every day there is, while it goes on."""
    return date_of(incident.resolved_at) if incident.resolved_at else "9999-12-31"


def _overall(services: tuple[ServiceShown, ...], going_on: tuple[IncidentShown, ...]) -> str:
    states = [it.state for it in services] or ["unknown"]
    states += [_of_incident(it)[0] for it in going_on]
    return min(states, key=RANK.index)
