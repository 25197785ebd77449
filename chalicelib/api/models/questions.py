"""What runs ask of people."""

from __future__ import annotations

from typing import Literal

from chalicelib.api.models.shape import Shown


class Question(Shown):
    """by: who has answered. answered: "" while it waits."""

    step: str
    kind: Literal["approve", "do"]
    says: str
    roles: list[str]
    count: int
    asked_at: str
    until: str
    otherwise: str
    by: list[str]
    answered: str
    answered_at: str | None


class Approval(Shown):
    """people: who may answer; who covers for them may too, after half of the time."""

    run: str
    incident: str
    scenario: str
    step: str
    kind: Literal["approve", "do"]
    says: str
    roles: list[str]
    count: int
    asked_at: str
    until: str
    otherwise: str
    by: list[str]
    people: list[str]


class Approvals(Shown):
    approvals: list[Approval]
