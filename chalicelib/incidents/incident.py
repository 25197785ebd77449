"""One incident a component: the first signal opens it, later ones join it, its run ends it.

    signal -> seen before? --yes--> its incident ended: nothing; still open: go on
           -> create open#<component> (conditional) --won--> record -> start run
                                                    --lost-> join: record -> start run (harmless)

Signals arrive at least once and the process may die after any line: every line repeats safely, and
the joining path starts the run too, so that a death between opening and starting heals itself. A
signal delivered again after its incident has ended opens nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from chalicelib.plan.records import Record, format_time
from chalicelib.ports import Clock, Records, StateStore, Workflows

INCIDENTS = "incidents"
SIGNALS = "signals"


@dataclass(frozen=True)
class Signal(Record):
    """Something that may be a disaster. `at` of the source, not of its arrival."""

    name: str
    raised_at: datetime
    reason: str


@dataclass(frozen=True)
class Incident(Record):
    """`id` is inc-<opened at>-<component>; the run of an incident is run-<the same>."""

    id: str
    component: str
    scenario: str
    severity: str
    signal: str
    signal_at: datetime
    opened_at: datetime
    status: str = "open"

    @property
    def run_id(self) -> str:
        return "run-" + self.id.removeprefix("inc-")


@dataclass(frozen=True)
class Desk:
    """What opening and running incidents needs."""

    state: StateStore
    records: Records
    workflows: Workflows
    clock: Clock


def handle_signal(
    signal: Signal,
    *,
    scenario: str,
    component: str,
    severity: str,
    run_body: dict[str, Any],
    desk: Desk,
    moment: str | None = None,
) -> Incident:
    """Open the component's incident or join the one that is open, and see that its run runs.

    Args:
        run_body: what the `run-started` record says besides the scenario (plan digest, objectives).
        moment: a person's override of the moment to recover to; None lets the run find it.
    """
    incident, opened = _open_or_join(signal, scenario, component, severity, desk)
    if incident.status != "open":
        return incident
    body = {
        "alarm": signal.name,
        "alarm_at": format_time(signal.raised_at),
        "reason": signal.reason,
    }
    about = {"component": component, "scenario": scenario, "severity": severity}
    kind, body = ("incident-opened", body | about) if opened else ("alarm-joined", body)
    key = f"{kind}/{signal.name}/{body['alarm_at']}"
    desk.records.append(incident.id, kind, body, actor="leeward", key=key)
    if incident.scenario == scenario:
        start_run(incident, run_body=run_body, desk=desk, moment=moment)
    return incident


def start_run(
    incident: Incident, *, run_body: dict[str, Any], desk: Desk, moment: str | None = None
) -> None:
    """Start the incident's run; doing it again changes nothing."""
    run = {
        "run_id": incident.run_id,
        "incident_id": incident.id,
        "scenario": incident.scenario,
        "component": incident.component,
        "alarm_at": format_time(incident.signal_at),
        "moment": moment,
    }
    desk.state.create(f"run#{incident.run_id}", "run", run | {"status": "running"})
    desk.records.append(
        incident.id,
        "run-started",
        run_body | run,
        actor="leeward",
        run_id=incident.run_id,
        key=f"{incident.run_id}/started",
    )
    payload = {"run": run, "steps": {}, "stages": {}}
    desk.workflows.start(incident.scenario, incident.run_id, payload)


def end_run(run_id: str, outcome: str, *, desk: Desk) -> None:
    """Mark the run ended; the incident of a recovered run is closed, of a failed one stays open."""
    run = desk.state.get(f"run#{run_id}", "run")
    if run is None or run["status"] != "running":
        return
    if outcome == "recovered":
        _close_incident(run, desk)
    ended = {k: v for k, v in run.items() if k != "sort"} | {"status": outcome}
    desk.state.replace(f"run#{run_id}", "run", ended, expected={"status": "running"})


def _close_incident(run: dict[str, Any], desk: Desk) -> None:
    opened = desk.state.get(INCIDENTS, _open_key(run["component"]))
    if opened is not None and opened["id"] == run["incident_id"]:
        item = {k: v for k, v in opened.items() if k != "sort"} | {"status": "recovered"}
        desk.state.create(INCIDENTS, run["incident_id"], item)
        desk.state.remove(INCIDENTS, _open_key(run["component"]), expected={"id": opened["id"]})


def _open_or_join(
    signal: Signal, scenario: str, component: str, severity: str, desk: Desk
) -> tuple[Incident, bool]:
    ended = _incident_of(signal, component, desk)
    if ended is not None:
        return ended, False
    now = desk.clock.now()
    fresh = Incident(
        id=f"inc-{now:%Y%m%dT%H%M%SZ}-{component}",
        component=component,
        scenario=scenario,
        severity=severity,
        signal=signal.name,
        signal_at=signal.raised_at,
        opened_at=now,
    )
    incident, opened = _create_or_read(fresh, desk)
    desk.state.create(SIGNALS, _signal_key(signal, component), {"incident_id": incident.id})
    return incident, opened


def _create_or_read(fresh: Incident, desk: Desk) -> tuple[Incident, bool]:
    while True:
        if desk.state.create(INCIDENTS, _open_key(fresh.component), fresh.to_json()):
            return fresh, True
        found = desk.state.get(INCIDENTS, _open_key(fresh.component))
        if found is not None:
            incident = Incident.from_json(found)
            again = (incident.signal, incident.signal_at) == (fresh.signal, fresh.signal_at)
            return incident, again


def _incident_of(signal: Signal, component: str, desk: Desk) -> Incident | None:
    """The ended incident that this very signal opened or joined, if there is one."""
    seen = desk.state.get(SIGNALS, _signal_key(signal, component))
    if seen is None:
        return None
    ended = desk.state.get(INCIDENTS, seen["incident_id"])
    return None if ended is None else Incident.from_json(ended)


def _signal_key(signal: Signal, component: str) -> str:
    return f"{signal.name}@{format_time(signal.raised_at)}@{component}"


def _open_key(component: str) -> str:
    return f"open#{component}"
