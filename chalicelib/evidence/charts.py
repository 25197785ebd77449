"""Where bars and ticks of the report's charts lie: shares of a width, in per cent. Pure."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from chalicelib.evidence.scorecard import Scorecard, StepScore
from chalicelib.evidence.text import in_units

# Distances between ticks that people read without counting, in seconds.
_STEPS = (
    *(0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30),
    *(60 * minutes for minutes in (1, 2, 5, 10, 15, 30)),
    *(3600 * hours for hours in (1, 2, 4, 6, 12, 24)),
)
_MOST_TICKS = 6


@dataclass(frozen=True)
class Tick:
    """A labelled place on the axis."""

    left: float
    label: str


@dataclass(frozen=True)
class Bar:
    """A step's stretch of the axis. `colour` counts from 1; `text` says it in words."""

    step: StepScore
    colour: int
    left: float
    width: float
    text: str


@dataclass(frozen=True)
class Gantt:
    """The steps since the alarm. `mark` is where the application wrote again, if it did."""

    bars: tuple[Bar, ...]
    ticks: tuple[Tick, ...]
    mark: float | None


@dataclass(frozen=True)
class Share:
    """A part of the measured RTO. `colour` 0: no step was running."""

    name: str
    colour: int
    seconds: float
    left: float
    width: float


def draw_gantt(score: Scorecard, end_at: datetime) -> Gantt | None:
    """The time line from the alarm (or the first step) to the end; None without any step."""
    starts = [step.started_at for step in score.steps if step.started_at]
    if not starts:
        return None
    zero = min(starts) if score.alarm_at is None else min(score.alarm_at, *starts)
    ends = [step.finished_at for step in score.steps if step.finished_at]
    last = max([end_at, *ends, *([score.first_write_at] if score.first_write_at else [])])
    span = max((last - zero).total_seconds(), 0.001)
    bars = tuple(_bar(step, number, zero, last, span) for number, step in enumerate(score.steps, 1))
    wrote = score.first_write_at
    mark = _share(zero, wrote, span) if wrote and wrote >= zero else None
    return Gantt(bars, draw_ticks(span), mark)


def draw_ticks(span: float) -> tuple[Tick, ...]:
    """At most seven ticks from 0 on, at distances that are easy to read."""
    step = next((step for step in _STEPS if span / step <= _MOST_TICKS), None)
    if step is None:
        step = math.ceil(span / _MOST_TICKS / 86400) * 86400
    places = [number * step for number in range(int(span / step) + 1)]
    return tuple(Tick(round(place / span * 100, 2), in_units(place)) for place in places)


def draw_budget(score: Scorecard) -> tuple[Share, ...]:
    """Where the measured RTO went, in order of time; empty while it is unknown.

    What runs beside something that began earlier counts from where that ended, so that the parts
    add up to the whole.
    """
    if not score.rto_seconds or score.alarm_at is None:
        return ()
    parts: list[tuple[str, int, float, float]] = []
    cursor = 0.0
    for number, start, end in _stretches(score, score.alarm_at, score.rto_seconds):
        if start > cursor:
            parts.append((_waiting(cursor), 0, cursor, start))
        if end > max(cursor, start):
            parts.append((score.steps[number].name, number + 1, max(cursor, start), end))
        cursor = max(cursor, end)
    if score.rto_seconds > cursor:
        parts.append((_waiting(cursor), 0, cursor, score.rto_seconds))
    return _shares(parts, score.rto_seconds)


def sum_by_name(shares: Iterable[Share]) -> tuple[Share, ...]:
    """One share a name, where each name came first."""
    sums: dict[str, Share] = {}
    for share in shares:
        so_far = sums.get(share.name, dataclasses.replace(share, seconds=0.0, width=0.0))
        sums[share.name] = dataclasses.replace(
            so_far,
            seconds=round(so_far.seconds + share.seconds, 3),
            width=round(so_far.width + share.width, 3),
        )
    return tuple(sums.values())


def _stretches(
    score: Scorecard, zero: datetime, rto_seconds: float
) -> list[tuple[int, float, float]]:
    """(number, start, end) of each step in seconds after the alarm, cut at the first write."""
    found = []
    for number, step in enumerate(score.steps):
        if step.started_at and step.finished_at:
            start = max(0.0, (step.started_at - zero).total_seconds())
            end = min(rto_seconds, (step.finished_at - zero).total_seconds())
            found.append((number, start, end))
    return sorted(found, key=lambda item: item[1])


def _shares(parts: Sequence[tuple[str, int, float, float]], whole: float) -> tuple[Share, ...]:
    return tuple(
        Share(
            name=name,
            colour=colour,
            seconds=round(end - start, 3),
            left=round(start / whole * 100, 3),
            width=round((end - start) / whole * 100, 3),
        )
        for name, colour, start, end in parts
    )


def _waiting(cursor: float) -> str:
    return "between steps" if cursor else "alarm to first step"


def _bar(step: StepScore, number: int, zero: datetime, last: datetime, span: float) -> Bar:
    start, end = step.started_at or zero, step.finished_at or last
    since, until = (start - zero).total_seconds(), (end - zero).total_seconds()
    return Bar(
        step=step,
        colour=number,
        left=_share(zero, start, span),
        width=max(0.4, round((until - since) / span * 100, 2)),
        text=f"{step.name} from {in_units(since)} to {in_units(until)} after the alarm",
    )


def _share(zero: datetime, at: datetime, span: float) -> float:
    return round((at - zero).total_seconds() / span * 100, 2)
