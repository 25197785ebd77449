"""Alarms and declarations in."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from chalicelib.errors import BadInput, LeewardError
from chalicelib.incidents.incident import SIGNALS, Incident, Signal, declare, handle_signal
from chalicelib.plan.model import Plan
from chalicelib.plan.records import format_time, parse_time
from chalicelib.plan.scenario import Scenario
from chalicelib.scenarios.steps import STEP_KINDS
from chalicelib.services import build
from chalicelib.services.people.notices import announce
from chalicelib.telemetry import logger

# The source of events that a person sends (leeward run).
DECLARED_BY = "leeward.operator"


def handle_declaration(event: dict[str, Any]) -> dict[str, Any]:
    """Start a run that a person asked for.

    Args:
        event: `detail` is {"scenario", "reason", "by", "at", "moment" or null, "drill"?}.
    Raises:
        BadInput: code "bad-declaration".
        Refused: code "run-running".
    """
    detail = event["detail"]
    scenario = require_declarable(detail)
    incident = declare(
        Signal(f"declared by {detail['by']}", parse_time(detail["at"]), detail["reason"]),
        actor=detail["by"],
        scenario=detail["scenario"],
        component=scenario.subject(detail["scenario"]),
        severity=scenario.severity,
        run_body=_promises(build.plan(), detail["scenario"]),
        desk=build.desk(),
        moment=detail.get("moment"),
        drill=bool(detail.get("drill")),
        site=scenario.recovers_at(build.plan().sites),
    )
    announce(incident)
    _warm(scenario, incident.run_id)
    return {"incident": incident.id, "run": incident.run_id}


def require_declarable(detail: dict[str, Any]) -> Scenario:
    """The scenario named. Raises BadInput (code "bad-declaration") without it or a reason."""
    scenario = build.plan().scenarios.get(str(detail.get("scenario")))
    if scenario is None or not detail.get("reason"):
        raise BadInput(
            f"expected a scenario of {build.plan().name} and a reason",
            hint=f"one of: {', '.join(build.plan().scenarios)}",
            code="bad-declaration",
        )
    return scenario


def handle_alarm(event: dict[str, Any]) -> dict[str, Any]:
    """Open or join an incident for each scenario that names the alarm.

    Args:
        event: "CloudWatch Alarm State Change" of EventBridge, with the state ALARM.
    Returns:
        {"alarm", "incidents"}; no incident when no scenario of the plan names the alarm.
    Raises:
        BadInput: code "not-an-alarm".
    """
    signal = _read_signal(event)
    opened = handle_signals(signal)
    return {"alarm": signal.name, "incidents": opened}


def handle_signals(signal: Signal) -> list[str]:
    """Open or join the incidents that the plan names for an alarm; their ids."""
    opened = []
    for name, scenario in build.plan().scenarios.items():
        # Where a quorum decides, an alarm is one signal of several (services/jobs/outage.py).
        if signal.name in scenario.alarms and scenario.trigger is None:
            opened.append(open_incident(signal, name, scenario).id)
    if opened:
        _note_handled(signal)
    return opened


def was_handled(name: str, since: datetime) -> bool:
    """Whether all was done that the alarm's change at `since`, or a later one, causes."""
    kept = build.state().get(SIGNALS, _handled_key(name))
    return kept is not None and parse_time(kept["at"]) >= since


def _note_handled(signal: Signal) -> None:
    state, item = build.state(), {"at": format_time(signal.raised_at)}
    while not state.create(SIGNALS, _handled_key(signal.name), item):
        kept = state.get(SIGNALS, _handled_key(signal.name)) or {"at": ""}
        if kept["at"] >= item["at"]:
            return
        if state.replace(SIGNALS, _handled_key(signal.name), item, expected={"at": kept["at"]}):
            return


def _handled_key(name: str) -> str:
    return f"handled#{name}"


def open_incident(signal: Signal, name: str, scenario: Scenario) -> Incident:
    """Open or join the incident of the scenario's subject, and see that its run runs."""
    plan = build.plan()
    incident = handle_signal(
        signal,
        scenario=name,
        component=scenario.subject(name),
        severity=scenario.severity,
        run_body=_promises(plan, name),
        desk=build.desk(),
        site=scenario.recovers_at(plan.sites),
    )
    announce(incident)
    _warm(scenario, incident.run_id)
    return incident


def _warm(scenario: Scenario, run_id: str) -> None:
    """Let the functions of the later steps start while the first one works: a cold start each is
    seconds of the recovery time. A function that cannot be asked starts when its step comes."""
    used = [STEP_KINDS[step.uses].function for step in scenario.all_steps() if step.uses]
    later = {*used, "record"} - set(used[:1])
    try:
        build.functions().warm(sorted(later), run_id)
    except LeewardError as error:
        logger.warning("functions were not warmed", extra={"error": error.to_json()})


def _read_signal(event: dict[str, Any]) -> Signal:
    try:
        detail = event["detail"]
        state = detail["state"]
        at = parse_time(state["timestamp"])
        return Signal(detail["alarmName"], at, str(state.get("reason", "")))
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(
            f"expected a CloudWatch alarm state change, found none: {type(error).__name__}",
            hint="the rule of on_alarm must pass EventBridge's event unchanged",
            code="not-an-alarm",
        ) from error


def _promises(plan: Plan, scenario: str) -> dict[str, Any]:
    return {
        "plan_sha256": plan.plan_sha256,
        "rto_objective_seconds": _seconds(plan.rto_of_scenario(scenario)),
        "rpo_objective_seconds": _seconds(plan.rpo_of_scenario(scenario)),
    }


def _seconds(value: timedelta | None) -> float | None:
    return None if value is None else value.total_seconds()
