"""Runs as they stand: their steps, live, and how long they have taken of what is promised."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from chalicelib.incidents.answer import read_run
from chalicelib.incidents.incident import Incident
from chalicelib.incidents.register import find_incident, is_drill, list_incidents
from chalicelib.plan.records import format_time, parse_time
from chalicelib.plan.scenario import Scenario, Step
from chalicelib.services import build
from chalicelib.services.views.incidents import opened_mark, questions_of
from chalicelib.services.views.paging import Page, cut_page

Event = dict[str, Any]
State = str
"""waiting for people, running, done, not begun, failed, undone: of a step."""


def list_runs(*, page: Page) -> Event:
    runs = [it for incident in list_incidents(build.state(), ended=True) for it in _all(incident)]
    found, more = cut_page(runs, page, _mark)
    return {"runs": [_line(it) for it in found], "next": more}


def _all(incident: Incident) -> Iterator[Incident]:
    """The incident as it was at each of its runs."""
    return (replace(incident, runs=number) for number in range(1, incident.runs + 1))


def _mark(incident: Incident) -> str:
    return f"{opened_mark(incident)}/{incident.runs:06d}"


def _line(incident: Incident) -> Event:
    run = build.state().get(f"run#{incident.run_id}", "run") or {}
    return {
        "run": incident.run_id,
        "incident": incident.id,
        "scenario": str(run.get("scenario", incident.scenario)),
        "component": incident.component,
        "status": str(run.get("status", "not started")),
        "drill": bool(run.get("drill", is_drill(incident))),
        "alarm_at": format_time(incident.signal_at),
        "requested_by": str(run.get("requested_by", "")),
    }


def run_view(run_id: str) -> Event:
    """Raises BadInput (code "unknown-run")."""
    run = read_run(run_id, build.state())
    incident = find_incident(str(run["incident_id"]), state=build.state())
    scenario = build.plan().scenarios.get(str(run["scenario"]))
    questions = questions_of(run_id)
    items = {it["sort"]: it for it in build.state().query(f"run#{run_id}")}
    steps = _steps(scenario, run, questions, items) if scenario else []
    return {
        "run": run_id,
        "incident": incident.id,
        "scenario": str(run["scenario"]),
        "title": scenario.title if scenario else "",
        "component": incident.component,
        "status": str(run["status"]),
        "drill": bool(run.get("drill")),
        "requested_by": str(run.get("requested_by", "")),
        "alarm_at": str(run["alarm_at"]),
        "clocks": _clocks(run, steps),
        "steps": steps,
        "questions": questions,
    }


def _steps(scenario: Scenario, run: Event, questions: list[Event], items: Event) -> list[Event]:
    return [_step(it, run, questions, items) for it in scenario.all_steps()]


def _step(step: Step, run: Event, questions: list[Event], items: Event) -> Event:
    began, ended = items.get(f"attempts#{step.name}"), items.get(f"step#{step.name}")
    asked = [it for it in questions if it["step"] == step.name]
    done = next((it for it in asked if it["kind"] == "do" and it["answered"] == "done"), None)
    theirs = next((it for it in asked if it["kind"] == "do"), None)
    started = (began or {}).get("at") or (theirs["asked_at"] if theirs else None)
    seconds = float(ended["seconds"]) if ended else _between(started, done)
    return {
        "step": step.name,
        "says": step.says,
        "uses": step.uses,
        "by": step.by,
        "state": _state(run, began, ended or done, asked, f"undone#{step.name}" in items),
        "attempts": int(began["count"]) if began else 0,
        "started_at": started,
        "ended_at": _later(started, seconds),
        "seconds": seconds,
        "expected_seconds": step.takes.total_seconds() if step.takes else None,
        "found": str(ended["outputs"]["found"]) if ended else None,
    }


def _state(
    run: Event, began: Event | None, done: Event | None, asked: list[Event], undone: bool
) -> State:
    if undone:
        return "undone"
    if done:
        return "done"
    if any(not it["answered"] for it in asked):
        return "waiting"
    running = run["status"] == "running"
    if began:
        return "running" if running else "failed"
    refused = [it for it in asked if it["answered"] in ("declined", "over")]
    return "failed" if refused and not running else "not-begun"


def _between(asked_at: str | None, done: Event | None) -> float | None:
    """How long a person took for their step."""
    if asked_at is None or done is None:
        return None
    taken = parse_time(done["answered_at"]) - parse_time(asked_at)
    return round(taken.total_seconds(), 3)


def _later(started: str | None, seconds: float | None) -> str | None:
    if started is None or seconds is None:
        return None
    return format_time(parse_time(started) + timedelta(seconds=seconds))


def _clocks(run: Event, steps: list[Event]) -> Event:
    """The recovery time counts from the alarm, and for a run that has ended, until then."""
    plan, now = build.plan(), build.clock().now()
    name = str(run["scenario"])
    known = name in plan.scenarios
    rto = plan.rto_of_scenario(name) if known else None
    rpo = plan.rpo_of_scenario(name) if known else None
    until = now if run["status"] == "running" else _end(run, steps)
    so_far = (until - parse_time(str(run["alarm_at"]))).total_seconds() if until else None
    return {
        "rto_objective_seconds": rto.total_seconds() if rto else None,
        "rto_so_far_seconds": None if so_far is None else max(round(so_far, 3), 0.0),
        "rpo_objective_seconds": rpo.total_seconds() if rpo else None,
        "as_of": format_time(now),
    }


def _end(run: Event, steps: list[Event]) -> datetime | None:
    """None of a run that was ended from outside before any step of its own had."""
    if "ended_at" in run:
        return parse_time(str(run["ended_at"]))
    ends = [parse_time(it["ended_at"]) for it in steps if it["ended_at"]]
    return max(ends, default=None)
