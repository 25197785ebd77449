"""Alarms go out together: whose turn it is to tell, what is told, and how each stands afterwards.

Many functions look at the same time, one for each alarm of a storm. One of them takes the turn
(a conditional write), puts the message into the outbox, then keeps that it was told: who dies in
between leaves a turn that ends by itself, and the next one tells again. Who has no turn keeps what
it saw, so that an alarm that ends meanwhile is told all the same.

must: when anything fails before the outbox has the message, each alarm goes out alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby
from typing import Any

from chalicelib.incidents.alarm_bursts import (
    GATHERED_FOR,
    Burst,
    News,
    burst_deliveries,
    burst_record,
    decide_burst,
)
from chalicelib.incidents.alarms import OVER, Standing, alarm_deliveries, wakes
from chalicelib.incidents.messages_outbox import keep
from chalicelib.incidents.streams import people_stream
from chalicelib.plan.records import format_time
from chalicelib.services import build
from chalicelib.services.people.notices import wake_teller

ALARMS, BURSTS = "alarms", "alarm-bursts"
# What people do not know of yet, and what they do: each waits for its own kind alone.
NEW, KNOWN = "new", "known"


@dataclass(frozen=True)
class _Part:
    """What one message tells of. number: of it among those of the incident."""

    incident: str
    number: str
    news: tuple[News, ...]


@dataclass(frozen=True)
class _Turn:
    kind: str
    burst: Burst
    parts: tuple[_Part, ...]


def standing_alarms() -> list[Standing]:
    """What is raised, or was until a moment ago."""
    return [Standing.from_json(_plain(it)) for it in build.state().query(ALARMS)]


def tell_news(news: Sequence[News], now: datetime) -> None:
    """Put what is due into the outbox, and keep the rest for the next message."""
    fresh = [it for it in news if not it.known]
    known = [it for it in news if it.known and it.standing.burst]
    alone = [it for it in news if it.known and not it.standing.burst]
    # All are called, whatever each raises.
    with ExitStack() as calls:
        calls.callback(_tell_alone, alone, now)
        calls.callback(_tell_or_alone, _take_known, known, now)
        calls.callback(_tell_or_alone, _take_new, fresh, now)


def _tell_or_alone(
    take: Callable[[Sequence[News], datetime], _Turn | None], news: Sequence[News], now: datetime
) -> None:
    if not news:
        return
    with ExitStack() as otherwise:
        otherwise.callback(_tell_alone, news, now)
        turn = take(news, now)
        for part in turn.parts if turn else ():
            _put(part, now)
        otherwise.pop_all()
    if turn is None:
        for it in news:
            _keep_waiting(it)
        return
    wake_teller()
    _note(turn)


def _take_new(news: Sequence[News], now: datetime) -> _Turn | None:
    burst = _take(NEW, now, rings=any(wakes(it.standing.alarm) for it in news))
    if burst is None:
        return None
    return _Turn(NEW, burst, (_Part(burst.incident, str(burst.number), tuple(news)),))


def _take_known(news: Sequence[News], now: datetime) -> _Turn | None:
    burst = _take(KNOWN, now, rings=False)
    return _Turn(KNOWN, burst, tuple(_parts_of(news, burst))) if burst else None


def _parts_of(news: Sequence[News], burst: Burst) -> Iterator[_Part]:
    """One for each burst that told of them, and for what is over one of its own."""

    def key(news: News) -> tuple[str, str]:
        return news.standing.burst, news.what

    for (incident, _), some in groupby(sorted(news, key=key), key=key):
        yield _Part(incident, f"{format_time(burst.began_at)}/{burst.number}", tuple(some))


def _take(kind: str, now: datetime, *, rings: bool) -> Burst | None:
    """The turn to tell, if it is time for one and nobody else took it."""
    kept = build.state().get(BURSTS, kind)
    burst = decide_burst(_revived(kept), wakes=rings, now=now)
    if burst is None:
        return None
    if kept is None:
        taken = build.state().create(BURSTS, kind, burst.to_json())
    else:
        taken = build.state().replace(BURSTS, kind, burst.to_json(), expected=_plain(kept))
    return burst if taken else None


def _revived(kept: dict[str, Any] | None) -> Burst | None:
    """None also for what is no burst any more: it must not keep alarms back."""
    try:
        return Burst.from_json(_plain(kept)) if kept else None
    except (TypeError, ValueError):
        return None


def _put(part: _Part, now: datetime) -> None:
    mine = {it.standing.alarm.name for it in part.news}
    others = [
        it
        for it in standing_alarms()
        if it.burst == part.incident and it.told and it.alarm.name not in mine
    ]
    keep(
        burst_deliveries(
            part.news,
            others,
            incident=part.incident,
            number=part.number,
            plan=build.plan(),
            at=now,
        ),
        state=build.state(),
    )


def _note(turn: _Turn) -> None:
    """What could not be recorded is kept as told all the same: it was."""
    with ExitStack() as calls:
        calls.callback(_end_turn, turn)
        for part in turn.parts:
            calls.callback(_keep_told, part)
            calls.callback(_record, part)


def _record(part: _Part) -> None:
    body = burst_record(part.news)
    build.records().append(
        people_stream(part.incident),
        "alarms",
        body,
        actor="leeward",
        key=f"alarms/{body['what']}/{part.number}",
    )


def _keep_told(part: _Part) -> None:
    for it in part.news:
        name, after = it.standing.alarm.name, replace(it.standing, burst=part.incident)
        if it.what == OVER:
            keep_standing(name, it.before, None)
        elif it.known or not build.state().create(ALARMS, name, after.to_json()):
            # Whoever had no turn may have kept it as one that waits.
            build.state().replace(ALARMS, name, after.to_json(), expected={})


def _end_turn(turn: _Turn) -> None:
    after = replace(turn.burst, next_at=turn.burst.told_at + GATHERED_FOR)
    build.state().replace(BURSTS, turn.kind, after.to_json(), expected=turn.burst.to_json())


def _keep_waiting(news: News) -> None:
    name, before = news.standing.alarm.name, news.before
    if before is None:
        keep_standing(name, None, replace(news.standing, told=0))
    else:
        keep_standing(name, before, replace(before, seen_at=news.standing.seen_at))


def _tell_alone(news: Sequence[News], now: datetime) -> None:
    """Each its own message, thread and alert. The outbox comes first: who dies between the two
    tells the same message again."""
    for it in news:
        about = replace(it.standing, burst="")
        keep(alarm_deliveries(about, it.what, plan=build.plan(), at=now), state=build.state())
        keep_standing(about.alarm.name, it.before, None if it.what == OVER else about)
    if news:
        wake_teller()


def keep_standing(name: str, before: Standing | None, after: Standing | None) -> None:
    """Unless somebody else has kept something else meanwhile."""
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


def _plain(item: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in item.items() if name != "sort"}
