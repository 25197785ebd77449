"""One incident with its run, what waits in it and for whom: what its page shows, in one look."""

from __future__ import annotations

from typing import Any

from chalicelib.services import build
from chalicelib.services.views.incidents import incident_view
from chalicelib.services.views.people import approvals_view
from chalicelib.services.views.report import has_report
from chalicelib.services.views.runs import run_view

Event = dict[str, Any]


def page_view(event: Event) -> Event:
    """{"incident"}: {"incident", "run" (null before it began), "approvals", "report"}.

    Raises:
        BadInput: code "unknown-incident".
    """
    incident = incident_view(str(event.get("incident")))
    begun = build.state().get(f"run#{incident['run']}", "run") is not None
    waiting = approvals_view()["approvals"] if begun else []
    return {
        "incident": incident,
        "run": run_view(incident["run"]) if begun else None,
        "approvals": [it for it in waiting if it["run"] == incident["run"]],
        "report": has_report(incident["incident"]),
    }
