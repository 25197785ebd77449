"""What is to be done after an incident: who, until which day, and how it stands.

    open --done--> done          visible until then: overdue, due soon, open
         --dropped--> dropped    with the reason why nobody does it

A day is over at midnight in the plan's time zone. Pure: reads no clock, calls nothing.
"""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Any, Literal

from chalicelib.plan.model import Plan
from chalicelib.plan.records import Record

Status = Literal["open", "done", "dropped"]
Standing = Literal["overdue", "due soon", "open", "done", "dropped"]
# How long before its day its owner is told.
SOON = timedelta(days=7)


@dataclass(frozen=True)
class Change(Record):
    """request: of whoever said it, so that saying it twice changes it once."""

    to: Status
    by: str
    changed_at: datetime
    says: str
    request: str


@dataclass(frozen=True)
class Action(Record):
    """owner: a contact of the plan. due_on: the last day for it, "2026-12-24"."""

    id: str
    incident: str
    what: str
    owner: str
    due_on: str
    added_by: str
    added_at: datetime
    request: str
    changes: tuple[Change, ...] = ()

    @classmethod
    def _revive(cls, name: str, value: Any) -> Any:
        if name == "changes":
            return tuple(Change.from_json(item) for item in value)
        return super()._revive(name, value)

    @property
    def status(self) -> Status:
        return self.changes[-1].to if self.changes else "open"

    @property
    def is_open(self) -> bool:
        return self.status == "open"


def standing_of(action: Action, *, today: date, soon: timedelta = SOON) -> Standing:
    """today: in the plan's time zone."""
    if not action.is_open:
        return action.status
    left = date.fromisoformat(action.due_on) - today
    if left < timedelta(0):
        return "overdue"
    return "due soon" if left <= soon else "open"


def in_order(actions: Iterable[Action]) -> list[Action]:
    """Those that are open first, the longest overdue of them first of all."""
    return sorted(actions, key=order_of)


def order_of(action: Action) -> str:
    """Text that orders actions and is no other action's."""
    return f"{0 if action.is_open else 1}#{action.due_on}#{action.id}"


def plan_zone(plan: Plan) -> tzinfo:
    """The zone whose days count: that of the plan's review, UTC when it names none."""
    name = plan.review.every.time_zone if plan.review.every else "UTC"
    return UTC if name == "UTC" else zoneinfo.ZoneInfo(name)


def today_in(plan: Plan, now: datetime) -> date:
    return now.astimezone(plan_zone(plan)).date()
