"""How many alarms become few messages. Pure.

A region that is gone raises dozens of alarms within minutes. The first is told at once; what comes
after it waits a moment and goes into one message, in the first one's thread and alert:

    raised   A          B C D . . .   E F               G (an hour later)
    told     A          |  3 min   B C D E F   ...      G
             one burst: one thread, one alert of a pager    another burst

What wakes people never waits behind what does not. What is told of alarms that people know of (that
they are over, that they last another day) waits likewise, in the thread that told of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from chalicelib.incidents.alarms import ABOUT, RAISED, Standing, alarm_facts, pages, wakes
from chalicelib.incidents.messages import Delivery, Notice, deliveries_of
from chalicelib.incidents.messages_text import one_line, write_alarm, write_alarms
from chalicelib.plan.model import Plan
from chalicelib.plan.records import Record, format_time

GATHERED_FOR = timedelta(minutes=3)
# What comes later than this after the last message is another burst, and so is what comes after
# the longest one: no pager may stay quiet for ever because an alarm is raised every few minutes.
JOINS_WITHIN = timedelta(minutes=10)
LONGEST = timedelta(hours=1)
# As long as whoever tells may take; should it die, another tells.
CLAIM = timedelta(minutes=1)
# A message names so many; `leeward alarms` and the record name all.
NAMED = 25
# Of so many CloudWatch's own words fit as well.
EXPLAINED = 5
LONGEST_DESCRIPTION = 160


@dataclass(frozen=True)
class Burst(Record):
    """told_at: the last message of it. next_at: before then nothing is told that may wait.
    number: of its messages. rang: whether one of them woke anybody."""

    began_at: datetime
    told_at: datetime
    next_at: datetime
    number: int
    rang: bool

    @property
    def incident(self) -> str:
        """In place of an incident's id: a pager's alert and a channel's thread are of a burst."""
        return f"{ABOUT}{self.began_at:%Y%m%dT%H%M%S.%fZ}"


@dataclass(frozen=True)
class News:
    """What is to be told of an alarm: RAISED or OVER. before: as it stood, None for a new one.
    raised: whether it is now."""

    standing: Standing
    what: str
    before: Standing | None
    raised: bool

    @property
    def known(self) -> bool:
        """Whether people have heard of the alarm."""
        return self.before is not None and self.before.told > 0 and self.before.heard


def decide_burst(burst: Burst | None, *, wakes: bool, now: datetime) -> Burst | None:
    """The burst that tells now, with this message counted; None when it waits."""
    if burst is None or _is_over(burst, now):
        return Burst(now, now, now + CLAIM, 1, wakes)
    if now < burst.next_at and not (wakes and not burst.rang):
        return None
    return replace(
        burst,
        told_at=now,
        next_at=now + CLAIM,
        number=burst.number + 1,
        rang=burst.rang or wakes,
    )


def _is_over(burst: Burst, now: datetime) -> bool:
    """Also one of a clock that was far ahead: it would keep everything back."""
    ahead = burst.next_at > now + GATHERED_FOR
    return ahead or now - burst.told_at >= JOINS_WITHIN or now - burst.began_at >= LONGEST


def burst_deliveries(
    news: Sequence[News],
    others: Sequence[Standing],
    *,
    incident: str,
    number: str,
    plan: Plan,
    at: datetime,
) -> tuple[Delivery, ...]:
    """One message of these to the channels and contacts of those inside.

    A pager hears of what wakes people, and of the end when nothing of the burst that does is left.

    Args:
        news: at least one, all RAISED or all OVER.
        others: what else people were told of in this burst and is not over.
        number: of this message among those of the burst.
    """
    what = news[0].what
    rings = any(wakes(it.standing.alarm) for it in news)
    quiet = what != RAISED and any(wakes(it.alarm) for it in others)
    facts = _facts(news, others, plan)
    notice = Notice(
        id=f"{what}/{number}",
        incident=incident,
        what=what,
        severity="SEV2" if rings else "SEV3",
        opened_at=min(it.standing.alarm.raised_at for it in news),
        noticed_at=at,
        drill=False,
        facts=facts,
    )
    write = write_alarms if len(news) > 1 or others else write_alarm
    subject, text = write(facts)
    found = deliveries_of(notice, "internal", subject, text, plan=plan)
    return tuple(it for it in found if (rings and not quiet) or not pages(it))


def _facts(news: Sequence[News], others: Sequence[Standing], plan: Plan) -> dict[str, Any]:
    order = sorted(news, key=_urgency)
    return alarm_facts(order[0].standing, order[0].what, plan) | {
        "alarms": [_line(it, with_reason=len(order) <= EXPLAINED) for it in order[:NAMED]],
        "count": len(order),
        "days": min(it.standing.told for it in order) - 1,
        "others": len(others),
    }


def _urgency(news: News) -> tuple[bool, datetime, str]:
    alarm = news.standing.alarm
    return not wakes(alarm), alarm.raised_at, alarm.name


def _line(news: News, *, with_reason: bool) -> dict[str, Any]:
    alarm, ended = news.standing.alarm, not news.raised and news.what == RAISED
    said = one_line(alarm.description)
    short = said if len(said) <= LONGEST_DESCRIPTION else f"{said[: LONGEST_DESCRIPTION - 1]}…"
    return {
        "name": one_line(alarm.name),
        "description": short,
        "reason": one_line(alarm.reason) if with_reason else "",
        "since": alarm.raised_at,
        "ended_at": news.standing.seen_at if ended else None,
    }


def burst_record(news: Sequence[News]) -> dict[str, Any]:
    """All that is known of each, for the record: a message names some of them."""
    return {
        "what": news[0].what,
        "alarms": [
            {
                "alarm": it.standing.alarm.name,
                "description": it.standing.alarm.description,
                "reason": it.standing.alarm.reason,
                "raised_at": format_time(it.standing.alarm.raised_at),
                "told": it.standing.told,
            }
            for it in sorted(news, key=_urgency)
        ],
    }
