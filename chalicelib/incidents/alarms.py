"""Who hears of an alarm that opens no incident, and when again. Pure.

It is told to those inside when it is raised, once more for each day that it lasts, and when it has
been quiet for a while: one that comes and goes is one alarm. Many at a time: alarm_bursts.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from chalicelib.incidents.messages import Delivery, Notice, dashboards, deliveries_of
from chalicelib.incidents.messages_text import write_alarm
from chalicelib.plan.model import Plan
from chalicelib.plan.records import Record, format_time
from chalicelib.ports.alarms import Alarm

RAISED, OVER = "raised", "over"
AGAIN = timedelta(days=1)
QUIET = timedelta(minutes=15)
SILENT = "-silent"
# Of these no pager hears: of a run that ended badly its incident's own calls go on.
WAKES_NOBODY = ("-warning", "-run-failed", "-run-timedout", "-run-aborted")
SETTLING = timedelta(hours=1)
# In place of an incident's id: a pager's alert and a channel's thread are one for each alarm.
ABOUT = "alarm-"


@dataclass(frozen=True)
class Standing(Record):
    """An alarm from its raise to its end. `told`: how often it was, or would have been; 0 while it
    waits to be. `seen_at`: raised, the last time that anybody looked. `heard`: whether people know
    of it. `burst`: the incident by which they were told, "" for one that was told alone."""

    alarm: Alarm
    told: int
    seen_at: datetime
    heard: bool = True
    burst: str = ""

    @classmethod
    def _revive(cls, name: str, value: Any) -> Any:
        return Alarm.from_json(value) if name == "alarm" else super()._revive(name, value)


def decide_standing(
    raised: Alarm | None, before: Standing | None, *, now: datetime, first_look: datetime
) -> tuple[Standing | None, str]:
    """How it stands now, None for one that is over; and what is to be told: RAISED, OVER or "".

    first_look: when Leeward was deployed. What has never run yet is silent, and CloudWatch raises
    the alarms of all of it within minutes: of those people hear a day later, if they last.
    """
    if before is not None and before.told == 0:
        return replace(before, told=1, seen_at=now if raised else before.seen_at), RAISED
    if raised is None:
        if before is None or now - before.seen_at < QUIET:
            return before, ""
        return None, OVER if before.heard else ""
    if before is None:
        never_ran = raised.name.endswith(SILENT) and raised.raised_at < first_look + SETTLING
        return Standing(raised, 1, now, heard=not never_ran), "" if never_ran else RAISED
    due = 1 + max(0, (now - before.alarm.raised_at) // AGAIN)
    if due <= before.told:
        return replace(before, seen_at=now), ""
    return replace(before, told=due, seen_at=now, heard=True), RAISED


def alarm_deliveries(
    standing: Standing, what: str, *, plan: Plan, at: datetime
) -> tuple[Delivery, ...]:
    """Of this alarm alone, to the channels and contacts of those inside; by a pager not of what
    WAKES_NOBODY."""
    alarm = standing.alarm
    facts = alarm_facts(standing, what, plan)
    notice = Notice(
        id=f"{what}/{facts['since']}/{standing.told}",
        incident=f"{ABOUT}{alarm.name}",
        what=what,
        severity="SEV2" if wakes(alarm) else "SEV3",
        opened_at=alarm.raised_at,
        noticed_at=at,
        drill=False,
        facts=facts,
    )
    subject, text = write_alarm(facts)
    found = deliveries_of(notice, "internal", subject, text, plan=plan)
    return tuple(it for it in found if wakes(alarm) or not pages(it))


def alarm_facts(standing: Standing, what: str, plan: Plan) -> dict[str, Any]:
    """For the words of one alarm."""
    alarm = standing.alarm
    return {
        "what": what,
        "name": alarm.name,
        "description": alarm.description,
        "reason": alarm.reason,
        "since": format_time(alarm.raised_at),
        "days": standing.told - 1,
        "dashboards": list(dashboards(plan)),
    }


def wakes(alarm: Alarm) -> bool:
    """Whether a pager hears of it."""
    return not alarm.name.endswith(WAKES_NOBODY)


def pages(delivery: Delivery) -> bool:
    return any(way.kind == "pagerduty" for way in delivery.ways)
