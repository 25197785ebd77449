"""Years of backups and daily prunes played through from a plan's schedules, without any store.

What is simulated is the real decision on made-up points; every run succeeds, takes no time and has
the component's stated size. Incrementals have no size, for a plan states none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from heapq import merge
from itertools import takewhile

from chalicelib.backup.retention.decide import decide_retention
from chalicelib.backup.retention.reasons import RetentionDecision
from chalicelib.errors import Refused
from chalicelib.plan.components import Backup, BaseComponent, Retention
from chalicelib.plan.records import PointStanding, RecoveryPoint, StoredObject

WHOLE = ("full", "dump", "sync")
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Forecast:
    """The last decision, and what was made and removed on the way. `peak`: most points at once."""

    decision: RetentionDecision
    taken: int
    removed: int
    peak: int


def forecast(
    name: str, component: BaseComponent, retention: Retention, *, start: datetime, end: datetime
) -> Forecast:
    """Take every backup that the plan schedules in (start, end], prune once a day.

    Raises:
        Refused: code "nothing-scheduled", when no schedule of the plan makes a recovery point.
    """
    shelf: list[PointStanding] = []
    taken = removed = peak = 0
    decision = RetentionDecision((), ())
    due = start + DAY
    for at, backup in _runs(name, component, start, end):
        while due < at:
            due += DAY
            decision = _prune(shelf, retention, due - DAY)
            removed += len(decision.prune)
            shelf = [kept.standing for kept in reversed(decision.keep)]
        shelf.append(_point(name, component, backup, at, shelf))
        taken, peak = taken + 1, max(peak, len(shelf))
    decision = _prune(shelf, retention, end)
    return Forecast(decision, taken, removed + len(decision.prune), peak)


def _prune(shelf: list[PointStanding], retention: Retention, now: datetime) -> RetentionDecision:
    return decide_retention(shelf, retention, now=now, time_zone=retention.time_zone)


def _runs(
    name: str, component: BaseComponent, start: datetime, end: datetime
) -> Iterator[tuple[datetime, Backup]]:
    makers = [one for one in component.backups if one.when and one.kind in (*WHOLE, "incremental")]
    if not any(one.kind in WHOLE for one in makers):
        raise Refused(
            f"expected a schedule of {name} that makes recovery points, found none",
            code="nothing-scheduled",
            hint="simulate a component with full backups, dumps or syncs.",
        )
    for at, number in merge(
        *(_firings(number, one, start, end) for number, one in enumerate(makers))
    ):
        yield at, makers[number]


def _firings(
    number: int, backup: Backup, start: datetime, end: datetime
) -> Iterator[tuple[datetime, int]]:
    assert backup.when
    for at in takewhile(lambda at: at <= end, backup.when.firings_after(start)):
        yield at, number


def _point(
    name: str, component: BaseComponent, backup: Backup, at: datetime, shelf: list[PointStanding]
) -> PointStanding:
    """An incremental builds on the newest point; without one it becomes a full backup."""
    parent = shelf[-1].point.id if backup.kind == "incremental" and shelf else None
    point_id = f"{at:%Y%m%dT%H%M%SZ}-{'incr' if parent else 'full'}"
    size_bytes = 0 if parent else component.size or 0
    return PointStanding(
        point=RecoveryPoint(
            id=point_id,
            component=name,
            kind="incremental" if parent else "full",
            taken_at=at,
            finished_at=at,
            objects=(StoredObject(f"points/{point_id}", size_bytes, ""),),
            source_bytes=size_bytes,
            encryption="",
            parent_id=parent,
        )
    )
