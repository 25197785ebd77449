"""Incidents as they stand: found by id, listed, closed by a person."""

from __future__ import annotations

from dataclasses import replace

from chalicelib.errors import BadInput, Refused
from chalicelib.incidents.incident import DRILL_ENDING, INCIDENTS, Incident
from chalicelib.ports import StateStore

OPEN = "open#"


def find_incident(incident: str, *, state: StateStore) -> Incident:
    """Raises BadInput (code "unknown-incident")."""
    ended = state.get(INCIDENTS, incident)
    if ended is not None:
        return Incident.from_json(ended)
    for item in state.query(INCIDENTS, OPEN):
        if item["id"] == incident:
            return Incident.from_json(item)
    raise BadInput(
        f"there is no incident {incident!r}",
        hint="`leeward incident list` names them",
        code="unknown-incident",
    )


def list_incidents(state: StateStore, *, ended: bool = False) -> list[Incident]:
    """Those that are open, and with `ended` the others too; the newest first."""
    items = state.query(INCIDENTS, "" if ended else OPEN)
    found = {item["id"]: Incident.from_json(item) for item in items}
    return sorted(found.values(), key=lambda it: it.opened_at, reverse=True)


def is_drill(incident: Incident) -> bool:
    return incident.component.endswith(DRILL_ENDING)


def close_incident(incident: Incident, *, state: StateStore) -> Incident:
    """A person ends an incident that no run has recovered. Safe to repeat.

    Raises:
        Refused: code "run-running", "already-closed".
    """
    run = state.get(f"run#{incident.run_id}", "run")
    if run is not None and run["status"] == "running":
        raise Refused(
            f"run {incident.run_id} of {incident.id} is still running",
            hint="wait for its end, or stop its execution first",
            code="run-running",
        )
    if incident.status not in ("open", "closed"):
        raise Refused(
            f"{incident.id} is {incident.status} already",
            hint="nothing is left to close",
            code="already-closed",
        )
    closed = replace(incident, status="closed")
    state.create(INCIDENTS, incident.id, closed.to_json())
    state.remove(INCIDENTS, f"{OPEN}{incident.component}", expected={"id": incident.id})
    return closed
