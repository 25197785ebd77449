"""The escalation of an incident, or of a question: its machine asks who is to be called now.

    escalation#<incident>   path#<subject>         started_at, factor
                            call#<subject>#<call>  who was called, whether it reached them
                            ack#<at>#<person>      an acknowledgement, of all in the incident

A subject is "incident", or a question "<kind>/<step>/<run>".
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import cache, partial
from typing import Any

from chalicelib.incidents.alarms import OVER, RAISED
from chalicelib.incidents.answer import question_from, read_run, read_verdict, read_votes
from chalicelib.incidents.approval import Question, decide_verdict
from chalicelib.incidents.escalation import (
    ACKNOWLEDGED_FOR,
    Call,
    Decision,
    Level,
    Progress,
    decide_escalation,
    levels_of,
)
from chalicelib.incidents.incident import Incident
from chalicelib.incidents.messages import (
    Delivery,
    page_of,
    ways_of_call,
    why_too_late,
)
from chalicelib.incidents.messages_outbox import keep, reserved, send_now, told_partition
from chalicelib.incidents.messages_text import write_message
from chalicelib.incidents.paths import WHOLE_INCIDENT, escalation_of
from chalicelib.incidents.register import find_incident, is_drill
from chalicelib.incidents.reminders import REMINDER
from chalicelib.incidents.streams import people_stream
from chalicelib.plan.records import format_time, parse_time
from chalicelib.services import build
from chalicelib.services.people.alarms import why_alarm_moot
from chalicelib.services.people.reminding import why_no_reminder

PAGE_SECONDS = 15.0


def escalate(event: dict[str, Any]) -> dict[str, Any]:
    """Call whoever is to be called now; {"ended", "wait_seconds", "found"} for the machine.

    Args:
        event: {"incident", "subject"}, and {"factor"} of a machine that was started by hand.
    """
    incident = find_incident(event["incident"], state=build.state())
    subject = event["subject"]
    _settle(incident, subject)
    levels = levels_of(build.plan().escalation, incident.severity)
    called: list[str] = []
    decision = _decide(incident, subject, levels, event)
    # Whoever is not reached is passed over at once: each round calls one level more.
    for _ in range(len(levels) + 1):
        if decision.ended or not decision.calls:
            break
        for call in decision.calls:
            called.append(_call(incident, subject, levels[call.level], call))
        decision = _decide(incident, subject, levels, event)
    if decision.ended:
        _record(incident, "escalation-ended", {"subject": subject, "why": decision.ended}, subject)
    found = "; ".join(called) or decision.ended or decision.why
    return {
        "ended": bool(decision.ended),
        "wait_seconds": max(1, decision.wait_seconds),
        "found": found,
    }


def _decide(
    incident: Incident, subject: str, levels: tuple[Level, ...], event: dict[str, Any]
) -> Decision:
    state, now = build.state(), build.clock().now()
    path = state.get(escalation_of(incident.id), f"path#{subject}") or {}
    calls = state.query(escalation_of(incident.id), f"call#{subject}#")
    progress = Progress(
        parse_time(path.get("started_at") or format_time(incident.opened_at)),
        tuple(_acknowledged_at(incident.id)),
        tuple((item["call"], bool(item["reached"])) for item in calls),
        _why_over(incident, subject, now),
    )
    return decide_escalation(
        levels,
        progress,
        acknowledged_for=build.plan().communication.acknowledged_for or ACKNOWLEDGED_FOR,
        factor=float(event.get("factor") or path.get("factor") or 1.0),
        now=now,
    )


def _why_over(incident: Incident, subject: str, now: datetime) -> str:
    """Why nobody is to be called any more; "" while somebody is."""
    if incident.status != "open":
        return f"the incident is {incident.status}"
    run = build.state().get(f"run#{incident.run_id}", "run")
    if is_drill(incident) and run is not None and run["status"] != "running":
        return "the drill is over"
    question = _question_of(subject)
    if question is None:
        return ""
    if read_run(question.run_id, build.state())["status"] != "running":
        return "the run is over"
    verdict = read_verdict(question, build.state())
    if verdict is not None:
        return f"{verdict.outcome} by {', '.join(verdict.by)}"
    return "its time is over" if now >= question.deadline_at else ""


def _question_of(subject: str) -> Question | None:
    if subject == WHOLE_INCIDENT:
        return None
    kind, step, run_id = subject.split("/", 2)
    item = build.state().get(f"run#{run_id}", f"question#{kind}#{step}")
    return None if item is None else question_from(item, read_run(run_id, build.state()))


def _settle(incident: Incident, subject: str) -> None:
    """Whoever took the last answer may have died before the run was told: `answer` tells it."""
    question = _question_of(subject)
    if question is None:
        return
    state = build.state()
    verdict = read_verdict(question, state)
    votes = read_votes(question, state)
    enough = verdict or decide_verdict(question, votes, now=build.clock().now())
    told = state.get(f"run#{question.run_id}", f"told#{question.kind}#{question.step}")
    if enough and told is None:
        body = {"verb": "settle", "run_id": question.run_id, "step": question.step}
        build.functions().start("answer", body)


def _call(incident: Incident, subject: str, level: Level, call: Call) -> str:
    """Call one level by its ways; kept before it is tried, so that a second try is the same."""
    page = _page(incident, subject, level, call)
    reached = False
    if page.ways:
        keep([page], state=build.state())
        send_now([page], _outbox(), seconds=PAGE_SECONDS)
        reached = build.state().get(told_partition(incident.id), page.id) is not None
    item = {
        "call": call.name,
        "who": level.who,
        "reached": reached,
        "at": format_time(build.clock().now()),
    }
    build.state().create(escalation_of(incident.id), f"call#{subject}#{call.name}", item)
    how = "reached" if reached else "NOT reached"
    said = {"subject": subject, "who": level.who, "contact": level.contact, "reached": reached}
    _record(incident, "called", said, f"{subject}/{call.name}")
    return f"{level.who} {how}"


def _page(incident: Incident, subject: str, level: Level, call: Call) -> Delivery:
    from chalicelib.services.people.messages import notice_of

    question = _question_of(subject)
    notice = notice_of(
        incident,
        "page",
        about=f"{subject}/{call.name}",
        at=format_time(build.clock().now()),
        facts={
            "who": level.who,
            "about": question.says if question else "an incident is open",
            "says": question.says if question else "",
        },
    )
    words = write_message(notice, "internal")
    ways = ways_of_call(level.contact, build.plan(), drill=notice.drill)
    recipient = level.contact or level.who
    page = page_of(notice, *words, ways=ways, recipient=recipient, subject=subject)
    return reserved(page)


def acknowledge(incident: str, by: str) -> dict[str, Any]:
    """Somebody looks after it: nobody else is called until that lapses."""
    from chalicelib.services.people.notices import notify

    about = find_incident(incident, state=build.state())
    now = build.clock().now()
    lasts = build.plan().communication.acknowledged_for or ACKNOWLEDGED_FOR
    at = format_time(now)
    build.state().create(escalation_of(incident), f"ack#{at}#{by}", {"by": by, "at": at})
    until = format_time(now + lasts)
    _record(about, "acknowledged", {"by": by, "until": until}, f"{at}/{by}", actor=by)
    notify("acknowledged", incident, about=at, by=by, until=until)
    return {
        "incident": incident,
        "by": by,
        "until": until,
        "found": f"nobody is called until {until}",
    }


def _acknowledged_at(incident: str) -> list[datetime]:
    items = build.state().query(escalation_of(incident), "ack#")
    return [parse_time(item["at"]) for item in items]


def judge_deliveries() -> Callable[[Delivery], str]:
    """Why a message must not be sent any more: looked at right before each try.

    An incident is read once for all that is tried together: nothing is, before all of it is judged.
    """
    return partial(_why_moot, cache(partial(find_incident, state=build.state())))


def _why_moot(find: Callable[[str], Incident], delivery: Delivery) -> str:
    if delivery.message.what == REMINDER:
        return why_no_reminder(delivery)
    if delivery.message.what in (RAISED, OVER):
        return why_alarm_moot(delivery)
    incident = find(delivery.message.incident)
    too_late = why_too_late(delivery, incident.status)
    if too_late or not delivery.subject:
        return too_late
    now = build.clock().now()
    lasts = build.plan().communication.acknowledged_for or ACKNOWLEDGED_FOR
    if any(
        at >= delivery.message.written_at and now < at + lasts
        for at in _acknowledged_at(incident.id)
    ):
        return "it was acknowledged"
    return _why_over(incident, delivery.subject, now)


def _outbox() -> Any:
    from chalicelib.services.people.messages import outbox_desk

    return outbox_desk()


def _record(
    incident: Incident, kind: str, body: dict[str, Any], key: str, *, actor: str = "leeward"
) -> None:
    build.records().append(people_stream(incident.id), kind, body, actor=actor, key=f"{kind}/{key}")
