"""The communication drill that Leeward begins: an incident that is a drill, without a run.

It is announced and escalated as any other, to the addresses for drills alone, and waits until
everybody has acknowledged it (`leeward incident ack`, `/dr ack`), or the plan's time is over.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from chalicelib.errors import NotReady
from chalicelib.evidence.entries import incident_closed
from chalicelib.incidents.communication import (
    CommunicationScore,
    answer_within,
    people_inside,
    score_communication,
)
from chalicelib.incidents.incident import DRILL_ENDING, Signal, open_incident
from chalicelib.incidents.messages_outbox import OUTBOX, told_partition
from chalicelib.incidents.paths import escalation_of
from chalicelib.incidents.register import close_incident, find_incident
from chalicelib.plan.exercises import BY_MESSAGES, Occasion, ScenarioResult
from chalicelib.plan.records import format_time, parse_time
from chalicelib.services import build
from chalicelib.services.people.notices import announce

SUBJECT = f"communication{DRILL_ENDING}"


def begin_drill(occasion: Occasion) -> Occasion:
    """Open its incident and tell people; again opens and tells nothing more."""
    scenario = _pretext()
    signal = Signal(
        f"exercise {occasion.exercise}",
        occasion.started_at or occasion.due_at,
        f"exercise {occasion.exercise}, due {format_time(occasion.due_at)}: acknowledge this",
    )
    severity = build.plan().scenarios[scenario].severity
    incident = open_incident(
        signal, scenario=scenario, component=SUBJECT, severity=severity, desk=build.desk()
    )
    announce(incident)
    # Of no scenario: that it told of one says nothing of what that recovers.
    return replace(occasion, results=(ScenarioResult(BY_MESSAGES, incident.id, ""),))


def look_at_drill(occasion: Occasion, now: datetime) -> Occasion:
    """The same while somebody is waited for; over, with what came of it, when nobody is."""
    [begun] = occasion.results
    score = _score(begun.incident, occasion.started_at or occasion.due_at, now)
    if not score.over:
        return occasion
    good = not score.shortfalls
    why = "; ".join(score.shortfalls) or f"{len(score.answered)} people acknowledged in time"
    _close(begun.incident, why)
    result = replace(
        begun,
        outcome="answered" if good else "unanswered",
        rto_seconds=score.slowest_seconds,
        rto_objective_seconds=answer_within(build.plan()).total_seconds(),
        shortfalls=score.shortfalls,
    )
    ended = replace(occasion, results=(result,), status="failed", ended_at=now, note=why)
    return replace(ended, status="done") if good else ended


def _score(incident: str, began_at: datetime, now: datetime) -> CommunicationScore:
    plan, state = build.plan(), build.state()
    acks = state.query(escalation_of(incident), "ack#")
    outbox = (it["delivery"] for it in state.query(OUTBOX, f"{incident}#"))
    return score_communication(
        people_inside(plan),
        [(str(it["by"]), parse_time(it["at"])) for it in acks],
        told=sum(1 for _ in state.query(told_partition(incident))),
        untold=[str(it["recipient"]) for it in outbox if parse_time(it["due_at"]) <= now],
        began_at=began_at,
        within=answer_within(plan),
        now=now,
    )


def _pretext() -> str:
    """The scenario that people are told of: the first of the plan. Nothing of it is run.

    Raises NotReady (code "no-scenario").
    """
    for name in build.plan().scenarios:
        return name
    raise NotReady(
        "expected a scenario to tell people of, found none in the plan",
        hint="write one; a communication drill takes the first",
        code="no-scenario",
    )


def _close(incident: str, why: str) -> None:
    found = find_incident(incident, state=build.state())
    entry = incident_closed(why=why)
    build.records().append(incident, *entry, actor="leeward", key="closed")
    close_incident(found, state=build.state())
