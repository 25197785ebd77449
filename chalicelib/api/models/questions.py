"""What runs ask of people."""

from __future__ import annotations

from typing import Literal

from chalicelib.api.models.shape import Shown


class Asked(Shown):
    """by: who has answered."""

    step: str
    kind: Literal["approve", "do"]
    says: str
    roles: list[str]
    count: int
    asked_at: str
    until: str
    otherwise: str
    by: list[str]


class Question(Asked):
    """by: who has answered. answered: "" while it waits."""

    answered: str
    answered_at: str | None


class Approval(Asked):
    """people: who may answer; who covers for them may too, after half of the time."""

    run: str
    incident: str
    scenario: str
    people: list[str]


class Approvals(Shown):
    approvals: list[Approval]
