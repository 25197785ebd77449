"""How much of each component would be lost now, and how much at worst over the last day."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from chalicelib.errors import LeewardError
from chalicelib.evidence.rpo import decide_rpo, worst_ages
from chalicelib.plan.records import format_time
from chalicelib.ports.history import MetricHistory
from chalicelib.services import build
from chalicelib.services.views.copies import Copies, copied, protected, read_all

if TYPE_CHECKING:
    from chalicelib.plan.components import BaseComponent

Event = dict[str, Any]
SHOWN = timedelta(hours=24)
STRETCHES = 96
# So far back the last copy before the shown time is looked for.
BEFORE = timedelta(hours=48)


def rpo_view(_event: Event) -> Event:
    """{"as_of", "stretch_seconds", "components": [{"component", "level", "why", "moment",
    "age_seconds", "objective_seconds", "history"}]}; `history`: the worst age of each stretch of
    the last 24 hours, oldest first, null where nothing is known, [] when it could not be asked.
    """
    return tell_rpo(read_all(), now=build.clock().now())


def tell_rpo(copies: dict[str, Copies], *, now: datetime) -> Event:
    put = _taken(now)
    return {
        "as_of": format_time(now),
        "stretch_seconds": SHOWN.total_seconds() / STRETCHES,
        "components": [
            _tell(name, copies[name], put, now)
            for name, component in protected().items()
            if copied(component)
        ],
    }


def _tell(
    name: str, copies: Copies, put: dict[str, tuple[datetime, ...]] | None, now: datetime
) -> Event:
    decided = decide_rpo(copies.moment, build.plan().rpo_of(name), now=now)
    known = [it.point.taken_at for it in copies.facts.standings if not it.quarantined]
    return {
        "component": name,
        "level": decided.level,
        "why": copies.facts.problem or decided.why,
        "moment": format_time(copies.moment) if copies.moment else None,
        "age_seconds": decided.age_seconds,
        "objective_seconds": decided.objective_seconds,
        "history": [] if put is None else _history([*known, *put[name]], now),
    }


def _history(moments: list[datetime], now: datetime) -> list[float | None]:
    return list(worst_ages(moments, start=now - SHOWN, end=now, count=STRETCHES))


def _taken(now: datetime) -> dict[str, tuple[datetime, ...]] | None:
    """When copies were made, by the metrics that their jobs put; None when nobody answers."""
    wanted = {name: _metrics(it) for name, it in protected().items() if copied(it)}
    try:
        return _metric_history().moments(wanted, start=now - BEFORE, end=now)
    except LeewardError:
        return None


def _metrics(component: BaseComponent) -> list[str]:
    """`Taken.<kind>` of the jobs; of a bucket that its replica was seen to be the same."""
    names = [f"Taken.{kind}" for kind in dict.fromkeys(it.kind for it in component.backups)]
    return [*names, f"Synced.{build.locations().primary}"]


def _metric_history() -> MetricHistory:
    from chalicelib.adapters.metric_history import CloudWatchHistory

    return CloudWatchHistory(build.client("cloudwatch"))
