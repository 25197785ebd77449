"""Who asked for a run, and why, as its state and its incident's records tell."""

from __future__ import annotations

from chalicelib.incidents.run import Run
from chalicelib.services import build

TOLD = ("incident-opened", "alarm-joined")


def asked_by(run: Run) -> str:
    """The person, or the exercise; "" when signals started it."""
    found = build.state().get(f"run#{run.run_id}", "run") or {}
    return str(found.get("requested_by") or "")


def reason_of(run: Run) -> str:
    """What was said when this run was started, by whoever spoke last."""
    records = build.records().read(run.incident_id)
    said = [it.body for it in records if it.kind in TOLD]
    return str(said[-1].get("reason") or "") if said else ""
