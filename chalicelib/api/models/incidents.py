"""Incidents, what came of an order about one, and what is told of them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

from chalicelib.api.models.questions import Question
from chalicelib.api.models.shape import Shown
from chalicelib.api.models.upkeep import ActionLine


class Declared(Shown):
    incident: str
    run: str


class Acknowledged(BaseModel):
    found: str


class Closed(Shown):
    incident: str
    found: str


class Answered(Shown):
    """told: whether the run was told; it is told again otherwise."""

    run_id: str
    step: str
    outcome: Literal["waiting", "approved", "declined", "done"]
    found: str
    told: bool


class IncidentLine(Shown):
    incident: str
    scenario: str
    component: str
    severity: str
    status: Literal["open", "recovered", "closed"]
    drill: bool
    opened_at: str
    run: str
    run_status: str
    waits_for: list[str]


class Incidents(Shown):
    """next: the cursor of the next page, null after the last."""

    incidents: list[IncidentLine]
    next: str | None


class RunOfIncident(Shown):
    run: str
    status: str


class AckLine(Shown):
    by: str
    at: str


class Call(Shown):
    who: str
    at: str
    reached: Any


class Told(Shown):
    what: str
    to: str
    way: str
    at: str


class Message(Shown):
    incident: str
    what: str
    audience: str
    to: str
    status: str
    attempts: int
    due_at: str
    why: list[str]
    subject: str
    text: str


class Messages(Shown):
    messages: list[Message]
    next: str | None


class Incident(IncidentLine):
    """regulators_by: when they must know if it is a breach of people's data."""

    signal: str
    runs: list[RunOfIncident]
    questions: list[Question]
    acknowledged: list[AckLine]
    called: list[Call]
    regulators_by: str | None
    told: list[Told]
    untold: list[Message]
    actions: list[ActionLine]
