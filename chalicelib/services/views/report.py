"""The report of an incident, as it was written when its run ended."""

from __future__ import annotations

from typing import Any

from chalicelib.errors import Refused
from chalicelib.incidents.register import find_incident
from chalicelib.services import build

Event = dict[str, Any]
REPORT = "report.html"
# Lambda hands on 6 MB; a report is a few hundred kilobytes of text.
LARGEST_BYTES = 4_000_000


def report_view(event: Event) -> Event:
    """{"incident"}: {"incident", "html"}.

    Raises:
        BadInput: code "unknown-incident".
        Refused: codes "no-report", "report-too-large".
    """
    incident = find_incident(str(event.get("incident")), state=build.state())
    key = f"{incident.id}/{REPORT}"
    sizes = {row.key: row.size_bytes for row in build.evidence_store().list(key)}
    if key not in sizes:
        raise Refused(
            f"{incident.id} has no report yet",
            hint="it is written when the run has ended",
            code="no-report",
        )
    if sizes[key] > LARGEST_BYTES:
        raise Refused(
            f"the report of {incident.id} is larger than a page can be",
            hint=f"copy it from the evidence bucket: {key}",
            code="report-too-large",
        )
    return {"incident": incident.id, "html": build.evidence_store().get(key).decode()}


def has_report(incident: str) -> bool:
    key = f"{incident}/{REPORT}"
    return any(row.key == key for row in build.evidence_store().list(key))
