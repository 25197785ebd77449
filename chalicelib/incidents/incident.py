"""One incident a component: the first signal opens it, later ones join it, its run ends it.

    signal -> seen before? --yes--> its incident ended: nothing; still open: go on
           -> create open#<component> (conditional) --won--> record -> start run
                                                    --lost-> join: record -> start run (harmless)

Signals arrive at least once and the process may die after any line: every line repeats safely, and
the joining path starts the run too, so that a death between opening and starting heals itself. A
signal delivered again after its incident has ended opens nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from chalicelib.errors import Refused
from chalicelib.plan.records import Record, format_time
from chalicelib.ports import Clock, Records, StateStore, Workflows

INCIDENTS = "incidents"
SIGNALS = "signals"
# What an incident that is a drill is about: never joined by an alarm, never in a recovery's way.
DRILL_ENDING = "-drill"


@dataclass(frozen=True)
class Signal(Record):
    """Something that may be a disaster. `at` of the source, not of its arrival."""

    name: str
    raised_at: datetime
    reason: str


@dataclass(frozen=True)
class Incident(Record):
    """`id` is inc-<opened at>-<component>; its runs are run-<the same>, then run-<the same>-2, ...

    `runs`: how many were started; the last one counts.
    """

    id: str
    component: str
    scenario: str
    severity: str
    signal: str
    signal_at: datetime
    opened_at: datetime
    status: str = "open"
    runs: int = 1

    @property
    def run_id(self) -> str:
        first = "run-" + self.id.removeprefix("inc-")
        return first if self.runs == 1 else f"{first}-{self.runs}"


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
    site: str = "",
) -> Incident:
    """Open the component's incident or join the one that is open, and see that its run runs.

    A signal never starts a second run: where the first one failed, a person decides (`declare`).

    Args:
        run_body: what the `run-started` record says besides the scenario (plan digest, objectives).
    """
    incident, opened = _open_or_join(signal, scenario, component, severity, desk)
    if incident.status != "open":
        return incident
    _record_signal(signal, incident, opened, actor="leeward", desk=desk)
    if incident.scenario == scenario and incident.runs == 1:
        start_run(incident, run_body=run_body, desk=desk, site=site)
    return incident


def declare(
    signal: Signal,
    *,
    actor: str,
    scenario: str,
    component: str,
    severity: str,
    run_body: dict[str, Any],
    desk: Desk,
    moment: str | None = None,
    drill: bool = False,
    site: str = "",
) -> Incident:
    """A person starts a run: of a new incident, or the next one where the last run failed.

    Args:
        component: what the incident is about: a component, or the site that is lost.
        moment: the person's own moment to recover to; None lets the run find it.
        drill: act on stand-ins alone; its incident is one of its own. site: where to recover.
    Raises:
        Refused: code "run-running", while the incident's last run has not ended.
    """
    subject = f"{component}{DRILL_ENDING}" if drill else component
    incident, opened = _open_or_join(signal, scenario, subject, severity, desk)
    _record_signal(signal, incident, opened, actor=actor, desk=desk)
    if not opened:
        incident = _next_run(incident, scenario, desk)
    start_run(
        incident,
        run_body=run_body,
        desk=desk,
        moment=moment,
        drill=drill,
        site=site,
        requested_by=actor,
    )
    return incident


def open_incident(
    signal: Signal, *, scenario: str, component: str, severity: str, desk: Desk
) -> Incident:
    """An incident without a run, which waits for people alone. Safe to repeat."""
    incident, opened = _open_or_join(signal, scenario, component, severity, desk)
    if incident.status == "open":
        _record_signal(signal, incident, opened, actor="leeward", desk=desk)
    return incident


def _record_signal(
    signal: Signal, incident: Incident, opened: bool, *, actor: str, desk: Desk
) -> None:
    body = {
        "alarm": signal.name,
        "alarm_at": format_time(signal.raised_at),
        "reason": signal.reason,
    }
    if opened:
        body |= {
            "component": incident.component,
            "scenario": incident.scenario,
            "severity": incident.severity,
        }
    kind = "incident-opened" if opened else "alarm-joined"
    key = f"{kind}/{signal.name}/{body['alarm_at']}"
    desk.records.append(incident.id, kind, body, actor=actor, key=key)


def _next_run(incident: Incident, scenario: str, desk: Desk) -> Incident:
    """The incident with one run more, once the one before has ended, recorded or not."""
    last = desk.state.get(f"run#{incident.run_id}", "run")
    if last is not None and last["status"] == "running":
        if desk.workflows.is_running(last["scenario"], incident.run_id):
            raise Refused(
                f"run {incident.run_id} of {incident.id} is still running",
                hint="wait for its end, or stop its execution, and declare again",
                code="run-running",
            )
        end_run(incident.run_id, "failed", desk=desk)
    more = replace(incident, runs=incident.runs + 1, scenario=scenario)
    expected = {"id": incident.id, "runs": incident.runs}
    if not desk.state.replace(
        INCIDENTS, _open_key(incident.component), more.to_json(), expected=expected
    ):
        raise Refused(
            f"{incident.id} changed while its next run was being declared",
            hint="look at the incident, and declare again if it is still open",
            code="run-running",
        )
    return more


def start_run(
    incident: Incident,
    *,
    run_body: dict[str, Any],
    desk: Desk,
    moment: str | None = None,
    drill: bool = False,
    site: str = "",
    requested_by: str = "",
) -> None:
    """Start the incident's run; doing it again changes nothing. requested_by: "" for nobody."""
    run = {
        "run_id": incident.run_id,
        "incident_id": incident.id,
        "scenario": incident.scenario,
        "component": incident.component,
        "alarm_at": format_time(incident.signal_at),
        "moment": moment,
        "drill": drill,
        "site": site,
        "requested_by": requested_by,
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
    begun = {"mark": desk.records.mark(incident.id)}
    desk.state.create(f"run#{incident.run_id}", "begun", begun)
    payload = {"run": run, "steps": {}, "stages": {}}
    desk.workflows.start(incident.scenario, incident.run_id, payload)


def end_run(run_id: str, outcome: str, *, desk: Desk) -> None:
    """Mark the run ended; the incident of a run that recovered all that could be ("recovered",
    "partial") is closed, of a failed one stays open."""
    run = desk.state.get(f"run#{run_id}", "run")
    if run is None or run["status"] != "running":
        return
    if outcome in ("recovered", "partial"):
        _close_incident(run, desk)
    at = format_time(desk.clock.now())
    ended = {k: v for k, v in run.items() if k != "sort"} | {"status": outcome, "ended_at": at}
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
            # Nothing is recorded of it yet: its first record is written without looking for others.
            desk.records.resume(fresh.id, desk.records.mark(fresh.id))
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
