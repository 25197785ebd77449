"""What a person sees of incidents: who is to do what until when, what was told, what was not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from chalicelib.incidents.answer import question_from, read_verdict, read_votes
from chalicelib.incidents.incident import Incident
from chalicelib.incidents.messages_outbox import told_of, undelivered
from chalicelib.incidents.messages_text import clock_due_at
from chalicelib.incidents.paths import escalation_of
from chalicelib.incidents.register import find_incident, is_drill, list_incidents
from chalicelib.plan.records import format_time
from chalicelib.services import build
from chalicelib.services.views.actions import actions_of
from chalicelib.services.views.paging import Page, cut_page

Event = dict[str, Any]


EVERYTHING = Page()


def list_view(*, ended: bool, page: Page = EVERYTHING) -> Event:
    found, more = cut_page(list_incidents(build.state(), ended=ended), page, opened_mark)
    return {"incidents": [_line(incident) for incident in found], "next": more}


def ended_lines(count: int) -> list[Event]:
    """Of the newest that are over."""
    found = [it for it in list_incidents(build.state(), ended=True) if it.status != "open"]
    return [_line(it) for it in found[:count]]


def opened_mark(incident: Incident) -> str:
    """Orders incidents by when they were opened."""
    return f"{format_time(incident.opened_at)}/{incident.id}"


def incident_view(incident: str) -> Event:
    """Raises BadInput (code "unknown-incident")."""
    found = find_incident(incident, state=build.state())
    chosen = build.plan().scenarios.get(found.scenario)
    personal = chosen is not None and chosen.personal_data
    escalation = list(build.state().query(escalation_of(incident)))
    return _line(found) | {
        "signal": found.signal,
        "runs": [_run_line(found, number) for number in range(1, found.runs + 1)],
        "questions": questions_of(found.run_id),
        "acknowledged": [
            {"by": it["by"], "at": it["at"]} for it in escalation if it["sort"][:4] == "ack#"
        ],
        "called": [
            {"who": it["who"], "at": it["at"], "reached": it["reached"]}
            for it in escalation
            if it["sort"][:5] == "call#"
        ],
        "regulators_by": clock_due_at(format_time(found.opened_at)) if personal else None,
        "told": [
            {"what": it["what"], "to": it["recipient"], "way": it["way"], "at": it["told_at"]}
            for it in told_of(incident, state=build.state())
        ],
        "untold": outbox_view(incident)["messages"],
        "actions": actions_of(incident),
    }


def outbox_view(incident: str, *, page: Page = EVERYTHING) -> Event:
    waiting = undelivered(build.state(), incident)
    found, more = cut_page(waiting, page, lambda it: str(it["sort"]), newest_first=False)
    return {"messages": [_untold(item) for item in found], "next": more}


def _untold(item: Event) -> Event:
    message = item["delivery"]["message"]
    return {
        "incident": message["incident"],
        "what": message["what"],
        "audience": message["audience"],
        "to": item["delivery"]["recipient"],
        "status": item["status"],
        "attempts": item["attempts"],
        "due_at": item["due_at"],
        "why": item["why"],
        "subject": message["subject"],
        "text": message["text"],
    }


def _line(incident: Incident) -> Event:
    run = build.state().get(f"run#{incident.run_id}", "run") or {}
    # What waits in a run is over with it: of hundreds that are, nothing more is asked for.
    asked = questions_of(incident.run_id) if run.get("status") == "running" else []
    return {
        "incident": incident.id,
        "scenario": incident.scenario,
        "component": incident.component,
        "severity": incident.severity,
        "status": incident.status,
        "drill": is_drill(incident),
        "opened_at": format_time(incident.opened_at),
        "run": incident.run_id,
        "run_status": run.get("status", "not started"),
        "waits_for": [it["step"] for it in asked if not it["answered"]],
    }


def _run_line(incident: Incident, number: int) -> Event:
    run_id = replace(incident, runs=number).run_id
    run = build.state().get(f"run#{run_id}", "run") or {}
    return {"run": run_id, "status": run.get("status", "not started")}


def questions_of(run_id: str) -> list[Event]:
    """What people were asked in the run; `answered` is "" while it waits."""
    run = build.state().get(f"run#{run_id}", "run")
    if run is None:
        return []
    found = []
    for item in build.state().query(f"run#{run_id}", "question#"):
        question = question_from(item, run)
        verdict = read_verdict(question, build.state())
        votes = read_votes(question, build.state())
        over = run["status"] != "running" or build.clock().now() >= question.deadline_at
        found.append(
            {
                "step": question.step,
                "kind": question.kind,
                "says": question.says,
                "roles": list(question.roles),
                "count": question.count,
                "asked_at": format_time(question.asked_at),
                "until": format_time(question.deadline_at),
                "otherwise": question.otherwise,
                "by": [vote.by for vote in votes],
                "answered": verdict.outcome if verdict else ("over" if over else ""),
                "answered_at": format_time(verdict.decided_at) if verdict else None,
            }
        )
    return found
