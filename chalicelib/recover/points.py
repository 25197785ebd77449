"""Which recovery point a restore takes, and what it does with one that turns out damaged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

from chalicelib.errors import BadInput, Damaged, OutsideWindow, Quarantined
from chalicelib.plan.records import PointKind, PointStanding, RecoveryPoint, format_time
from chalicelib.ports import Catalogue, Clock, Holdings, RejectedPoint

Result = TypeVar("Result")
# As whoever repairs copies calls it.
DAMAGED_COPY = "damaged"


def choose_points(
    holdings: Holdings, kind: PointKind, *, point_id: str = "", before: datetime | None = None
) -> tuple[RecoveryPoint, ...]:
    """The points that a restore may use, the one to try first foremost.

    Pure. `point_id` names the one to use; else those that were finished at or before `before`
    (None: all), newest first.

    Raises:
        BadInput: code "unknown-point", when there is no point of that id and kind.
        Quarantined: the named point, or every one that would do.
        OutsideWindow: code "no-point", when there is none.
    """
    fitting = [it for it in holdings.standings if it.point.kind == kind]
    if point_id:
        fitting = [it for it in fitting if it.point.id == point_id]
        if not fitting:
            raise _unknown(point_id, kind, holdings.rejected)
    elif before is not None:
        fitting = [it for it in fitting if it.point.finished_at <= before]
    usable = [it.point for it in fitting if not it.quarantined]
    if usable:
        return tuple(sorted(usable, key=lambda point: (point.taken_at, point.id), reverse=True))
    if fitting:
        raise _quarantined(fitting)
    moment = f" of {format_time(before)} or before" if before else ""
    raise OutsideWindow(
        f"expected a recovery point of kind {kind}{moment}, found none",
        code="no-point",
        hint="Name a later moment, or look for the point in another location.",
    )


def newer_damaged(holdings: Holdings) -> tuple[str, ...]:
    """Ids of points that are newer than every usable one, and that another location may have whole.

    Pure. An infected point is the same everywhere, and so is one of which nobody knows why it was
    quarantined.
    """
    newest = max((it.point.id for it in holdings.standings if not it.quarantined), default="")
    damaged = [it.point.id for it in holdings.standings if it.is_damaged]
    rejected = [it.point_id for it in holdings.rejected]
    return tuple(sorted(it for it in (*damaged, *rejected) if it > newest))


def without_damaged(holdings: Holdings, damaged: Mapping[str, str]) -> Holdings:
    """As they were if these had been quarantined there. Pure. Args: damaged: point id -> why."""
    if not damaged:
        return holdings
    standings = tuple(
        it
        if it.quarantined or it.point.id not in damaged
        else replace(it, quarantined=damaged[it.point.id], quarantine_code=DAMAGED_COPY)
        for it in holdings.standings
    )
    return replace(holdings, standings=standings)


def use_newest(
    catalogue: Catalogue,
    kind: PointKind,
    use: Callable[[RecoveryPoint], Result],
    *,
    clock: Clock,
    point_id: str = "",
    before: datetime | None = None,
) -> tuple[Result, tuple[str, ...]]:
    """`use` the first point that is whole; what it says of it, and the ids of damaged ones.

    A point that `use` finds damaged is quarantined. When it was named the restore ends with what
    is wrong with it; otherwise the next older one is taken.

    Raises:
        Damaged: as `use`, when the point was named or no other is left.
        BadInput, Quarantined, OutsideWindow: as `choose_points`.
    """
    damaged: list[str] = []
    points = choose_points(catalogue.holdings(), kind, point_id=point_id, before=before)
    while True:
        point = points[len(damaged)]
        try:
            return use(point), tuple(damaged)
        except Damaged as error:
            catalogue.quarantine(
                point.id, code=error.instance_code, reason=error.message, at=clock.now()
            )
            damaged.append(point.id)
            if len(damaged) == len(points):
                raise


def _unknown(point_id: str, kind: str, rejected: tuple[RejectedPoint, ...]) -> Exception:
    why = next((it for it in rejected if it.point_id == point_id), None)
    if why is not None:
        return Damaged(
            f"expected recovery point {point_id} to be usable, found: {why.reason}",
            code=why.code,
            hint="Use another recovery point.",
        )
    return BadInput(
        f"expected a recovery point of kind {kind}, found none of id {point_id!r}",
        code="unknown-point",
        hint="List the component's recovery points and name one of them.",
    )


def _quarantined(found: list[PointStanding]) -> Quarantined:
    last = found[-1]
    return Quarantined(
        f"recovery point {last.point.id} is quarantined: {last.quarantined}",
        hint="Use another recovery point.",
        point_id=last.point.id,
    )
