"""Where the bars of the charts lie, in units of their viewBox. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

from chalicelib.evidence.text import in_units
from chalicelib.plan.records import parse_time

# The objective stands at three quarters of a gauge, so that going over it is seen.
OBJECTIVE_AT = 75.0
SPARK_HEIGHT = 24.0


@dataclass(frozen=True)
class Gauge:
    """`fill` of 100; `mark`: where the objective is, None without one."""

    fill: float
    mark: float | None
    says: str


def draw_gauge(value: float | None, objective: float | None, what: str) -> Gauge:
    """A figure against what is promised; one that is not known fills nothing, and says so."""
    if value is None:
        return Gauge(0.0, OBJECTIVE_AT if objective else None, f"{what}: unknown")
    if not objective:
        return Gauge(0.0, None, f"{what}: {in_units(round(value))}, nothing is promised")
    fill = min(100.0, round(value / objective * OBJECTIVE_AT, 2))
    told = f"{what}: {in_units(round(value))} of {in_units(objective)}"
    return Gauge(max(fill, 0.5), OBJECTIVE_AT, told)


@dataclass(frozen=True)
class Column:
    """A part of a day: `top` and `height` of SPARK_HEIGHT. state: good, bad or unknown."""

    left: int
    width: int
    top: float
    height: float
    state: str


@dataclass(frozen=True)
class Spark:
    """`line`: where the objective lies from the top; None when it is out of the picture."""

    columns: tuple[Column, ...]
    width: int
    line: float | None
    says: str


def draw_spark(history: Sequence[float | None], objective: float | None) -> Spark | None:
    """The worst ages of a day, oldest first; None when they could not be asked."""
    if not history:
        return None
    known = [value for value in history if value is not None]
    top = max([*known, (objective or 0.0) * 4 / 3, 1.0])
    columns = tuple(_columns(history, objective, top))
    line = round(SPARK_HEIGHT * (1 - objective / top), 2) if objective else None
    return Spark(columns, len(history), line, _tell(history, known, objective))


def _columns(
    history: Sequence[float | None], objective: float | None, top: float
) -> Iterator[Column]:
    """What is unknown at a stretch is one part, however long."""
    left = 0
    for value, group in groupby(history):
        width = len(list(group))
        if value is None:
            yield Column(left, width, 0.0, SPARK_HEIGHT, "unknown")
        else:
            height = round(max(SPARK_HEIGHT * value / top, 0.6), 2)
            state = "bad" if objective is not None and value > objective else "good"
            yield Column(left, width, round(SPARK_HEIGHT - height, 2), height, state)
        left += width


def _tell(history: Sequence[float | None], known: Sequence[float], objective: float | None) -> str:
    if not known:
        return "Last 24 h: nothing is known"
    promised = f" of {in_units(objective)}" if objective else ""
    unknown = (len(history) - len(known)) * 24 / len(history)
    share = f", unknown for {unknown:.1f} h" if unknown else ""
    return f"Last 24 h: at worst {in_units(round(max(known)))}{promised}{share}"


@dataclass(frozen=True)
class Bar:
    """A step's stretch of the run, of 100."""

    left: float
    width: float


def draw_bars(run: dict[str, Any], now: datetime) -> dict[str, Bar]:
    """step -> its stretch, from the alarm to now or to the end; those that began."""
    zero = parse_time(run["alarm_at"])
    begun = [it for it in run["steps"] if it["started_at"]]
    spans = {it["step"]: _span(it, run["status"], zero, now) for it in begun}
    whole = max([end for _, end in spans.values()], default=0.0) or 1.0
    return {
        name: Bar(
            round(max(start, 0.0) / whole * 100, 2), round(max((end - start) / whole * 100, 0.8), 2)
        )
        for name, (start, end) in spans.items()
    }


def _span(step: dict[str, Any], status: str, zero: datetime, now: datetime) -> tuple[float, float]:
    start = (parse_time(step["started_at"]) - zero).total_seconds()
    if step["ended_at"]:
        return start, (parse_time(step["ended_at"]) - zero).total_seconds()
    lasts = status == "running" and step["state"] in ("running", "waiting")
    return start, max(start, (now - zero).total_seconds() if lasts else start)
