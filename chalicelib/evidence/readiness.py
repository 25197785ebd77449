"""Is a component ready to be recovered? Judged by proof alone, and pure.

Ready is what was restored and found sound, not longer ago than the plan promises. What is not
known, cannot be read, failed since or is too old is not ready, with the reason in one sentence.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from chalicelib.evidence.text import in_units
from chalicelib.plan.records import PointStanding, Proof
from chalicelib.ports import RejectedPoint

Level = Literal["ready", "not-ready", "no-copies"]
# A clock that is ahead by more tells nothing about ages.
CLOCK_ERROR = timedelta(minutes=5)


@dataclass(frozen=True)
class FailedTest:
    """A drill that did not recover the component; or, without an incident, the exercise `scenario`,
    whose restore of it failed or was not tried."""

    at: datetime
    scenario: str
    incident: str
    outcome: str


@dataclass(frozen=True)
class CopyFacts:
    """What a component's primary location says of its copies.

    standings: oldest first. proofs: the notes of proven points that could be read, newest first.
    unreadable: ids of points whose proof could not. problem: why nothing is known; "" when it is.
    """

    component: str
    standings: tuple[PointStanding, ...] = ()
    rejected: tuple[RejectedPoint, ...] = ()
    proofs: tuple[Proof, ...] = ()
    unreadable: tuple[str, ...] = ()
    failed: tuple[FailedTest, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class Readiness:
    """`why`: one sentence. `proof`: what it rests on, or what is not enough any more."""

    component: str
    level: Level
    why: str
    proof: Proof | None = None
    proof_age_seconds: float | None = None


def decide_readiness(
    facts: CopyFacts, *, copied: bool, valid_for: timedelta | None, now: datetime
) -> Readiness:
    """Judge one component.

    Args:
        copied: whether the plan has any copy of it made.
        valid_for: how old a proof may be; None when the plan does not say, which proves nothing.
        now: aware UTC.
    """
    name = facts.component
    if not copied:
        return Readiness(name, "no-copies", "the plan makes no copy of it")
    if facts.problem:
        return Readiness(name, "not-ready", f"its copies cannot be read: {facts.problem}")
    proof = _usable_proof(facts)
    wrong = _first(_objections(facts, proof, valid_for, now))
    age = max(0.0, (now - proof.proven_at).total_seconds()) if proof else None
    if wrong:
        return Readiness(name, "not-ready", wrong, proof, age)
    assert proof is not None
    why = f"{proof.point_id} was restored and found sound {in_units(age)} ago"
    return Readiness(name, "ready", why, proof, age)


def _objections(
    facts: CopyFacts, proof: Proof | None, valid_for: timedelta | None, now: datetime
) -> Iterable[str]:
    if not facts.standings:
        yield _nothing_whole(facts)
    if proof is None:
        yield _unproven(facts)
        return
    yield from _failed_since(facts, proof)
    if proof.proven_at > now + CLOCK_ERROR:
        yield f"its proof is dated {proof.proven_at:%Y-%m-%d %H:%M} UTC, which has not come"
    if valid_for is None:
        yield "the plan does not say how old a proof may be"
    elif now - proof.proven_at > valid_for:
        age = in_units((now - proof.proven_at).total_seconds())
        yield f"its proof is {age} old; the plan promises {in_units(valid_for.total_seconds())}"
    newest = facts.standings[-1]
    if newest.quarantined:
        yield f"its newest point {newest.point.id} is quarantined: {newest.quarantined}"


def _nothing_whole(facts: CopyFacts) -> str:
    if not facts.rejected:
        return "there is no recovery point"
    return f"no recovery point is whole: {facts.rejected[-1].reason}"


def _unproven(facts: CopyFacts) -> str:
    if facts.unreadable:
        return f"the proof of {facts.unreadable[0]} cannot be read"
    return "no recovery point that may be used was ever restored and verified"


def _failed_since(facts: CopyFacts, proof: Proof) -> Iterable[str]:
    for test in sorted(facts.failed, key=lambda it: it.at, reverse=True):
        if test.at > proof.proven_at:
            if test.incident:
                yield f"the last drill of {test.scenario} ended as {test.outcome}"
            else:
                yield f"its last {test.scenario} ended as {test.outcome.replace('-', ' ')}"


def _usable_proof(facts: CopyFacts) -> Proof | None:
    """The newest that is sound, of this component, of a point that a restore may still use."""
    usable = {it.point.id for it in facts.standings if not it.quarantined}
    sound = [
        it
        for it in facts.proofs
        if it.ok and it.component == facts.component and it.point_id in usable
    ]
    return max(sound, key=lambda it: it.proven_at, default=None)


def _first(reasons: Iterable[str]) -> str:
    return next(iter(reasons), "")
