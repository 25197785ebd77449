"""What the JSON API takes and answers, as pydantic models. Imported when it is asked, never before.

What is taken is strict: an unknown field, or a number where a text belongs, is refused. Times are
RFC 3339 in UTC, durations seconds.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Reason = Annotated[str, Field(min_length=1, max_length=2000, pattern=r"\S")]
Code = Annotated[
    str,
    Field(min_length=6, max_length=40, pattern=r"^[0-9A-Za-z -]+$", description="A one-time code."),
]
Name = Annotated[str, Field(min_length=1, max_length=128)]
Seconds = Annotated[float, Field(ge=0)]


class Taken(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Shown(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Declaration(Taken):
    """A disaster of the plan, with the one-time code of somebody who may declare."""

    scenario: Name
    reason: Reason
    code: Code
    moment: Annotated[
        str | None, Field(max_length=40, description="Recover to just before this time.")
    ] = None


class Drill(Taken):
    """As a declaration."""

    scenario: Name
    code: Code
    reason: Reason = "a drill"


class Acknowledgement(Taken):
    """Nothing is said with it."""


class Closure(Taken):
    reason: Reason
    code: Code


class Answer(Taken):
    """approve or decline an approval; done or decline a person's step."""

    decision: Literal["approve", "decline", "done"]
    code: Code
    reason: Annotated[str, Field(max_length=2000)] = ""


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


class Incident(BaseModel):
    """regulators_by: when they must know if it is a breach of people's data."""

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
    signal: str
    runs: list[RunOfIncident]
    questions: list[Question]
    acknowledged: list[AckLine]
    called: list[Call]
    regulators_by: str | None
    told: list[Told]
    untold: list[Message]


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


class Person(Shown):
    person: str
    title: str
    external: bool
    roles: list[str]


class RoleLine(Shown):
    role: str
    title: str
    may: list[str]
    held_by: list[str]
    covered_by: str | None


class People(Shown):
    people: list[Person]
    roles: list[RoleLine]


class ProofCheck(Shown):
    name: str
    found: str


class ProofLine(Shown):
    """point: the recovery point that was restored and found sound."""

    point: str
    proven_at: str
    age_seconds: float | None
    last_commit_at: str | None
    checks: list[ProofCheck]
    incident: str | None


class ReadyComponent(Shown):
    component: str
    kind: str
    level: str
    why: str
    points: int
    proof: ProofLine | None


class ReadinessOfAll(Shown):
    as_of: str
    proof_valid_seconds: Seconds | None
    components: list[ReadyComponent]


class Rejected(Shown):
    point: str
    why: str


class Window(Shown):
    """Any moment in it can be recovered."""

    start_at: str
    end_at: str


class Point(Shown):
    """stays: false when the next prune removes it. why: the rules that say so. held, quarantined:
    the reason somebody gave, "" when nobody did."""

    point: str
    kind: str
    taken_at: str
    size_bytes: Annotated[int, Field(ge=0)]
    letter: str
    stays: bool
    why: list[str]
    proven_at: str | None
    read_at: str | None
    held: str
    quarantined: str


class Points(Shown):
    """more: how many older ones are not listed. calendar: the same laid out by days and months."""

    component: str
    as_of: str
    rejected: list[Rejected]
    windows: list[Window]
    points: list[Point]
    more: int
    stay: int
    go: int
    calendar: dict[str, Any] | None


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


class Findings(Shown):
    """file: the YAML that was packaged; null where that is not known."""

    as_of: str
    plan: str
    plan_sha256: str
    file: str | None
    findings: list[FindingLine]


class FieldProblem(Shown):
    """path: of the field, as a JSON Pointer."""

    path: str
    found: str


class Problem(Shown):
    """RFC 9457. title: the error's code, stable (docs/commands.md); hint: what to do."""

    type: str
    title: str
    status: int
    detail: str
    hint: str
    errors: list[FieldProblem] = []


def model_named(name: str) -> type[BaseModel]:
    found: type[BaseModel] = globals()[name]
    return found
