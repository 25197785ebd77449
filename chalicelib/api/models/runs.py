"""Runs, step by step, with their clocks."""

from __future__ import annotations

from typing import Literal

from chalicelib.api.models.questions import Question
from chalicelib.api.models.shape import Seconds, Shown


class RunLine(Shown):
    run: str
    incident: str
    scenario: str
    component: str
    status: str
    drill: bool
    alarm_at: str
    requested_by: str


class Runs(Shown):
    runs: list[RunLine]
    next: str | None


class Clocks(Shown):
    """rto_so_far_seconds: since the alarm, until now, or until the run ended."""

    rto_objective_seconds: Seconds | None
    rto_so_far_seconds: Seconds | None
    rpo_objective_seconds: Seconds | None
    as_of: str


class Step(Shown):
    """uses: Leeward does it; by: a role does. found: what came of it, in one line."""

    step: str
    says: str
    uses: str | None
    by: str | None
    state: Literal["not-begun", "waiting", "running", "done", "failed", "undone"]
    attempts: int
    started_at: str | None
    ended_at: str | None
    seconds: Seconds | None
    expected_seconds: Seconds | None
    found: str | None


class Run(Shown):
    run: str
    incident: str
    scenario: str
    title: str
    component: str
    status: str
    drill: bool
    requested_by: str
    alarm_at: str
    clocks: Clocks
    steps: list[Step]
    questions: list[Question]
