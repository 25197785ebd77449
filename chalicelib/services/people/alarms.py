"""Alarms that start no run are told to people; what is raised is kept for all who ask."""

from __future__ import annotations

from datetime import datetime

from chalicelib.incidents.alarms import (
    ABOUT,
    OVER,
    QUIET,
    Standing,
    alarm_deliveries,
    decide_standing,
)
from chalicelib.incidents.messages import Delivery
from chalicelib.incidents.messages_outbox import keep
from chalicelib.plan.records import format_time, parse_time
from chalicelib.ports.alarms import Alarm
from chalicelib.services import build
from chalicelib.services.people.notices import tells_anybody, wake_teller

ALARMS = "alarms"
LOOKED, FIRST, LAST = "alarms-looked", "first", "last"


def standing_alarms() -> list[Standing]:
    """What is raised, or was until a moment ago."""
    return [Standing.from_json(_plain(it)) for it in build.state().query(ALARMS)]


def tell_alarms(raised: list[Alarm]) -> int:
    """Keep how each stands, and put what is to be told into the outbox first: who dies between the
    two tells the same message again. Returns how many were told of."""
    now, first, told = build.clock().now(), first_look(), 0
    before = {it.alarm.name: it for it in standing_alarms()}
    found = {it.name: it for it in raised}
    for name in sorted(before.keys() | found.keys()):
        standing, what = decide_standing(
            found.get(name), before.get(name), now=now, first_look=first
        )
        if what and tells_anybody():
            about = standing or before[name]
            keep(alarm_deliveries(about, what, plan=build.plan(), at=now), state=build.state())
            told += 1
        _keep(name, before.get(name), standing)
    if told:
        wake_teller()
    _note_looked(now)
    return told


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
    fresh = build.clock().now() - delivery.message.written_at < QUIET
    if delivery.message.what == OVER or fresh:
        return ""
    name = delivery.message.incident.removeprefix(ABOUT)
    return "" if build.state().get(ALARMS, name) is not None else "the alarm is over"


def _keep(name: str, before: Standing | None, after: Standing | None) -> None:
    if after == before:
        return
    state = build.state()
    if before is None and after is not None:
        state.create(ALARMS, name, after.to_json())
        return
    expected = {"seen_at": before.to_json()["seen_at"]} if before else {}
    if after is None:
        state.remove(ALARMS, name, expected=expected)
    else:
        state.replace(ALARMS, name, after.to_json(), expected=expected)


def _plain(item: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in item.items() if name != "sort"}
