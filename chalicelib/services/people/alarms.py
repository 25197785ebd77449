"""Alarms that start no run are told to people; what is raised is kept for all who ask."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from chalicelib.incidents.alarm_bursts import News
from chalicelib.incidents.alarms import ABOUT, OVER, QUIET, decide_standing
from chalicelib.incidents.messages import Delivery
from chalicelib.plan.records import format_time, parse_time
from chalicelib.ports.alarms import Alarm
from chalicelib.services import build
from chalicelib.services.people.alarm_bursts import keep_standing, standing_alarms, tell_news
from chalicelib.services.people.notices import tells_anybody

LOOKED, FIRST, LAST = "alarms-looked", "first", "last"


def tell_alarms(raised: list[Alarm]) -> None:
    """Keep how each stands, and put what is to be told into the outbox."""
    now = build.clock().now()
    tell_news(list(_news_of({it.name: it for it in raised}, now)), now)
    _note_looked(now)


def _news_of(raised: dict[str, Alarm], now: datetime) -> Iterator[News]:
    """What is to be told; how the others stand is kept at once, and that of all where nobody can
    be told."""
    first, anybody = first_look(), tells_anybody()
    before = {it.alarm.name: it for it in standing_alarms()}
    for name in sorted(before.keys() | raised.keys()):
        known = before.get(name)
        standing, what = decide_standing(raised.get(name), known, now=now, first_look=first)
        about = standing or known
        if what and anybody and about is not None:
            yield News(about, what, known, raised=name in raised)
        else:
            keep_standing(name, known, standing)


def first_look() -> datetime:
    """When somebody looked for the first time: that is now, when nobody has."""
    now = build.clock().now()
    build.state().create(LOOKED, FIRST, {"at": format_time(now)})
    kept = build.state().get(LOOKED, FIRST)
    return parse_time(kept["at"]) if kept else now


def looked_at() -> datetime | None:
    """When somebody last looked which alarms are raised."""
    kept = build.state().get(LOOKED, LAST)
    return parse_time(kept["at"]) if kept else None


def _note_looked(now: datetime) -> None:
    item = {"at": format_time(now)}
    if not build.state().replace(LOOKED, LAST, item, expected={}):
        build.state().create(LOOKED, LAST, item)


def why_alarm_moot(delivery: Delivery) -> str:
    """Why it need not be told any more: it is over. One just noticed may not be kept yet."""
    message = delivery.message
    if message.what == OVER or build.clock().now() - message.written_at < QUIET:
        return ""
    told_by = ((f"{ABOUT}{it.alarm.name}", it.burst) for it in standing_alarms())
    return "" if any(message.incident in it for it in told_by) else "it is over"
