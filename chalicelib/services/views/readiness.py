"""Which components are ready to be recovered, and on which proof that rests."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from chalicelib.evidence.readiness import CopyFacts, Readiness, decide_readiness
from chalicelib.plan.records import Proof, format_time
from chalicelib.services import build
from chalicelib.services.views.copies import Copies, copied, protected, read_all

Event = dict[str, Any]


def readiness_view(_event: Event) -> Event:
    """{"as_of", "proof_valid_seconds", "components": [{"component", "level", "why", "proof"}]}."""
    return tell_readiness(read_all(), now=build.clock().now())


def tell_readiness(copies: dict[str, Copies], *, now: datetime) -> Event:
    plan = build.plan()
    valid = plan.proof_valid_for
    judged = {
        name: decide_readiness(
            copies[name].facts if name in copies else CopyFacts(name),
            copied=copied(component),
            valid_for=valid,
            now=now,
        )
        for name, component in protected().items()
    }
    return {
        "as_of": format_time(now),
        "proof_valid_seconds": valid.total_seconds() if valid else None,
        "components": [
            {"kind": plan.components[name].kind} | _tell(it, copies.get(name))
            for name, it in judged.items()
        ],
    }


def _tell(judged: Readiness, copies: Copies | None) -> Event:
    return {
        "component": judged.component,
        "level": judged.level,
        "why": judged.why,
        "points": len(copies.facts.standings) if copies else 0,
        "proof": _tell_proof(judged.proof, judged.proof_age_seconds) if judged.proof else None,
    }


def _tell_proof(proof: Proof, age_seconds: float | None) -> Event:
    return {
        "point": proof.point_id,
        "proven_at": format_time(proof.proven_at),
        "age_seconds": age_seconds,
        "last_commit_at": format_time(proof.last_commit_at) if proof.last_commit_at else None,
        "checks": [{"name": it.name, "found": it.found} for it in proof.checks],
        "incident": proof.incident or None,
    }
