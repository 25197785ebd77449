"""The recovery points of one component: which stay, by which keeps, which go, and why."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

from chalicelib.backup.retention.calendar import MEANINGS, lay_out, letter_of
from chalicelib.backup.retention.decide import decide_retention
from chalicelib.backup.retention.reasons import RetentionDecision
from chalicelib.plan.records import PointStanding, format_time
from chalicelib.services import build
from chalicelib.services.views.copies import answered_in_time, require_component

if TYPE_CHECKING:
    from chalicelib.backup.retention.calendar import Calendar, Cell
    from chalicelib.plan.components import Retention
    from chalicelib.ports import Holdings

Event = dict[str, Any]
# Points that are listed, newest first; the calendar has them all.
MOST_LISTED = 200


def calendar_view(event: Event) -> Event:
    """{"component"}: its points with the reasons, laid out by days and by months.

    Raises:
        BadInput: code "unknown-component".
        Unavailable: code "copies-silent".
    """
    name = str(event.get("component"))
    require_component(name)
    return answered_in_time(lambda: _calendar_of(name), name)


def _calendar_of(name: str) -> Event:
    component = require_component(name)
    catalogue, now = build.catalogue(name), build.clock().now()
    is_database = build.plan().components[name].kind == "postgres"
    known = catalogue.inventory() if is_database else None
    held = known.holdings if known else catalogue.holdings()
    shown = _kept(name, held, component.retention, now) if component.retention else _all(held)
    return {
        "component": name,
        "as_of": format_time(now),
        "rejected": [{"point": it.point_id, "why": it.reason} for it in held.rejected],
        "windows": [
            {"start_at": format_time(it.start_at), "end_at": format_time(it.end_at)}
            for it in (known.windows if known else ())
        ],
        **shown,
    }


def _all(held: Holdings) -> Event:
    newest = held.standings[::-1]
    points = [_point(it, "", stays=True, why=["the plan says no retention"]) for it in newest]
    return {"points": points[:MOST_LISTED], "more": max(0, len(points) - MOST_LISTED)} | {
        "stay": len(points), "go": 0, "calendar": None
    }  # fmt: skip


def _kept(name: str, held: Holdings, retention: Retention, now: datetime) -> Event:
    decision = decide_retention(held.standings, retention, now=now, time_zone=retention.time_zone)
    calendar = lay_out(name, decision, as_of=now, time_zone=retention.time_zone)
    points = _points(decision)
    return {
        "points": points[:MOST_LISTED],
        "more": max(0, len(points) - MOST_LISTED),
        "stay": calendar.stay,
        "go": calendar.go,
        "calendar": _lay_out(calendar),
    }


def _points(decision: RetentionDecision) -> list[Event]:
    stay = [
        _point(it.standing, letter_of(it), stays=True, why=[one.words for one in it.reasons])
        for it in decision.keep
    ]
    go = [
        _point(it, "x", stays=False, why=[decision.why_pruned(it).words]) for it in decision.prune
    ]
    return sorted([*stay, *go], key=lambda it: (it["taken_at"], it["point"]), reverse=True)


def _point(standing: PointStanding, letter: str, *, stays: bool, why: list[str]) -> Event:
    point = standing.point
    return {
        "point": point.id,
        "kind": point.kind,
        "taken_at": format_time(point.taken_at),
        "size_bytes": point.stored_bytes,
        "letter": letter,
        "stays": stays,
        "why": why,
        "proven_at": format_time(standing.proven_at) if standing.proven_at else None,
        "read_at": format_time(standing.read_at) if standing.read_at else None,
        "held": standing.held,
        "quarantined": standing.quarantined,
    }


def _lay_out(calendar: Calendar) -> Event:
    return {
        "time_zone": calendar.time_zone,
        "weeks": [{"label": label, "days": _cells(row)} for label, row in calendar.weeks],
        "years": [{"label": str(year), "months": _cells(row)} for year, row in calendar.years],
        "letters": {letter: MEANINGS[letter] for letter in calendar.letters},
        "older": calendar.older,
    }


def _cells(row: tuple[Cell | None, ...]) -> list[Event | None]:
    return [asdict(cell) if cell else None for cell in row]
