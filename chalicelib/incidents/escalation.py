"""Who is called when nobody answers: the plan's path with its clocks. Pure.

    0         15        30                  60 min        (clock of the path)
    |on-call  |lead     |manager            |CTO, CEO (major incidents) | CTO, CEO again ...
         ^ack ............ lapses
    the clock of the path stands still from an acknowledgement until it lapses; then whoever is
    called at that point is called again, and the path goes on from there

must: nobody is called after the end, nor while an acknowledgement holds. must: each call of a level
is made once, whoever asks and however often: it has a name, by which it is kept. Whoever cannot be
reached at all is passed over at once: the next of the path is called now and not by the clock.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from chalicelib.plan.people import EscalationStep
from chalicelib.plan.records import Record

MAJOR = "SEV1"
# Where the plan does not say how long an acknowledgement holds.
ACKNOWLEDGED_FOR = timedelta(minutes=30)
# The path has an end, the incident need not: its last level is called again and again.
AGAIN_AFTER = timedelta(minutes=30)
LONGEST_SLEEP_SECONDS = 3600


@dataclass(frozen=True)
class Level(Record):
    """One step of the path. starts_seconds: on the clock of the path."""

    number: int
    who: str
    contact: str
    starts_seconds: float


@dataclass(frozen=True)
class Call(Record):
    """A level that is called. round: after how many acknowledgements; again: how many times the
    end of the path was reached before."""

    level: int
    round: int
    again: int = 0

    @property
    def name(self) -> str:
        return f"{self.level}.{self.round}.{self.again}"


@dataclass(frozen=True)
class Progress:
    """What happened so far. calls: name -> whether anybody was reached. ended: why, "" if not."""

    started_at: datetime
    acknowledged_at: tuple[datetime, ...] = ()
    calls: tuple[tuple[str, bool], ...] = ()
    ended: str = ""


@dataclass(frozen=True)
class Decision:
    """`calls` are to be made now; then look again after `wait_seconds`. `ended`: why, or ""."""

    calls: tuple[Call, ...]
    wait_seconds: int
    ended: str
    why: str


def levels_of(path: Iterable[EscalationStep], severity: str) -> tuple[Level, ...]:
    """The path of an incident of that severity.

    A step with a condition (`only`) has no clock: it is called together with the step before it,
    in major incidents alone.
    """
    found: list[Level] = []
    for step in path:
        if step.only is not None and severity != MAJOR:
            continue
        before = found[-1].starts_seconds if found else 0.0
        starts = step.after.total_seconds() if step.after is not None else before
        found.append(Level(len(found), step.who, step.contact or "", starts))
    return tuple(found)


def decide_escalation(
    levels: tuple[Level, ...],
    progress: Progress,
    *,
    acknowledged_for: timedelta = ACKNOWLEDGED_FOR,
    factor: float = 1.0,
    now: datetime,
) -> Decision:
    """Whom to call at this moment.

    Pure.

    Args:
        factor: real seconds for each second of the plan; less than 1 in tests.
    """
    if progress.ended:
        return Decision((), 0, progress.ended, progress.ended)
    if not levels:
        return Decision((), 0, "the plan has no escalation", "nobody is to be called")
    holds = acknowledged_for * factor
    acknowledged = sorted(progress.acknowledged_at)
    if acknowledged and now < acknowledged[-1] + holds:
        left = (acknowledged[-1] + holds - now).total_seconds()
        return Decision((), _sleep(left), "", f"acknowledged, for {left:.0f} s more")
    position = _position(progress.started_at, acknowledged, holds, now).total_seconds() / factor
    calls, following = _calls(levels, dict(progress.calls), len(acknowledged), position)
    # Once it is known whether anybody was reached it is known who is next: look again at once.
    wait = 1 if calls else _sleep((following - position) * factor)
    return Decision(tuple(calls), wait, "", f"{position / 60:.1f} min of the path")


def _calls(
    levels: tuple[Level, ...], made: dict[str, bool], round_: int, position: float
) -> tuple[list[Call], float]:
    """The calls that are due and not made, and when the next is due on the path's clock."""
    reached = _reached(levels, made, round_, position)
    first = reached[-1].starts_seconds if round_ and reached else 0.0
    wanted = [Call(it.number, round_) for it in reached if it.starts_seconds >= first]
    following = [it.starts_seconds for it in levels if it not in reached]
    if not following:
        end = max(it.starts_seconds for it in levels)
        again = int((position - end) // AGAIN_AFTER.total_seconds())
        last = [it for it in levels if it.starts_seconds == end]
        if again > 0:
            wanted += [Call(it.number, round_, again) for it in last]
        following = [end + (max(again, 0) + 1) * AGAIN_AFTER.total_seconds()]
    return [call for call in wanted if call.name not in made], min(following)


def _reached(
    levels: tuple[Level, ...], made: dict[str, bool], round_: int, position: float
) -> list[Level]:
    """The levels whose time has come, and those after somebody who could not be reached."""
    found: list[Level] = []
    for level in levels:
        in_time = level.starts_seconds <= position
        passed_over = bool(found) and made.get(Call(found[-1].number, round_).name) is False
        if not in_time and not passed_over:
            break
        found.append(level)
    return found


def _position(
    started_at: datetime, acknowledged: list[datetime], holds: timedelta, now: datetime
) -> timedelta:
    """The time that counts: without what was covered by acknowledgements."""
    covered, until = timedelta(0), started_at
    for at in acknowledged:
        begin, end = max(at, until), min(at + holds, now)
        if end > begin:
            covered += end - begin
        until = max(until, end)
    return now - started_at - covered


def _sleep(seconds: float) -> int:
    return max(1, min(math.ceil(seconds), LONGEST_SLEEP_SECONDS))
