"""How much would be lost if it happened now, and how much over the last hours. Pure.

The age of a component is the time since the newest moment to which it can be taken back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from chalicelib.evidence.text import in_units

Level = Literal["within", "over", "unknown", "not-promised"]
# A clock that is ahead by more tells nothing about ages.
CLOCK_ERROR = timedelta(minutes=5)


@dataclass(frozen=True)
class RpoNow:
    """Seconds; None: not known, or not promised. `why`: one sentence."""

    level: Level
    why: str
    age_seconds: float | None = None
    objective_seconds: float | None = None


def decide_rpo(moment: datetime | None, objective: timedelta | None, *, now: datetime) -> RpoNow:
    """Judge one component by the newest moment that can be recovered; None: none is known."""
    promised = objective.total_seconds() if objective is not None else None
    if moment is None:
        return RpoNow("unknown", "no moment is known to be recoverable", None, promised)
    if moment > now + CLOCK_ERROR:
        return RpoNow("unknown", "its newest moment has not come: a clock is wrong", None, promised)
    age = max(0.0, (now - moment).total_seconds())
    if promised is None:
        return RpoNow("not-promised", "the plan promises no RPO for it", age)
    told = f"{in_units(age)} would be lost; the plan promises {in_units(promised)}"
    return RpoNow("over" if age > promised else "within", told, age, promised)


def worst_ages(
    moments: Iterable[datetime], *, start: datetime, end: datetime, count: int
) -> tuple[float | None, ...]:
    """The greatest age in each of `count` equal stretches of [start, end), in seconds.

    Args:
        moments: when a copy was complete, any order; from before `start` too, if known.
    Returns:
        None for a stretch at whose beginning no copy was known: that is worse than any figure.
    """
    known = sorted(at for at in moments if at <= end)
    width = (end - start) / count
    edges = [start + number * width for number in range(count + 1)]
    return tuple(_worst(known, left, right) for left, right in zip(edges, edges[1:], strict=False))


def _worst(known: Sequence[datetime], left: datetime, right: datetime) -> float | None:
    before = [at for at in known if at <= left]
    if not before:
        return None
    points = [before[-1], *(at for at in known if left < at < right), right]
    ages = (later - earlier for earlier, later in zip(points, points[1:], strict=False))
    return max(age.total_seconds() for age in ages)
