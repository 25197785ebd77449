"""Exercises, actions, and what is found in the plan."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

from chalicelib.api.models.shape import Shown


class ExerciseLine(BaseModel):
    name: str
    stands: Any


class Exercises(Shown):
    as_of: str
    exercises: list[ExerciseLine]


class ActionLine(BaseModel):
    """days_left: until it is due, less than 0 when it is overdue; null when it is not open."""

    action: str
    incident: str
    what: str
    owner: str
    owner_title: str
    due_on: str
    days_left: int | None
    standing: str
    added_by: str
    added_at: str


class Actions(Shown):
    """open, overdue: how many there are. plan_review: of the primary region's stack alone."""

    actions: list[ActionLine]
    next: str | None
    open: int
    overdue: int
    plan_review: dict[str, Any] | None


class FindingLine(Shown):
    """line: in the YAML, of the path or of what is around it; null without a file."""

    rule: str
    title: str
    severity: Literal["error", "warning", "note"]
    path: str
    line: int | None
    message: str
    hint: str
    accepted: Any


class RaisedAlarm(Shown):
    alarm: str
    description: str
    reason: str
    raised_at: str


class RaisedAlarms(Shown):
    """known: whether somebody looked of late; none may be taken for good where it is false."""

    as_of: str
    looked_at: str | None
    known: bool
    alarms: list[RaisedAlarm]


class Findings(Shown):
    """file: the YAML that was packaged; null where that is not known."""

    as_of: str
    plan: str
    plan_sha256: str
    file: str | None
    findings: list[FindingLine]
