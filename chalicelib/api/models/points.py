"""Recovery points, their proofs, and how ready they make each component."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from chalicelib.api.models.shape import Seconds, Shown


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
