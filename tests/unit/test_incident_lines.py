"""The lists of a terminal: what is copied from them is whole."""

from __future__ import annotations

from typing import Any

from leeward.commands.alarms import _as_text
from leeward.commands.incident import incident_lines

LONG = "inc-20261123T204601Z-nexus-studio-eu-central-uploads-and-derivatives"


def incident(**changed: Any) -> dict[str, Any]:
    return {
        "incident": LONG,
        "scenario": "regional-outage-of-the-primary-site",
        "severity": "SEV1",
        "status": "open",
        "drill": False,
        "run": LONG.replace("inc", "run"),
        "run_status": "running",
        "waits_for": [],
    } | changed


def test_an_incident_is_told_without_cutting_its_id() -> None:
    assert incident_lines(incident()) == [
        f"{LONG}  SEV1 open: regional-outage-of-the-primary-site",
        f"  {LONG.replace('inc', 'run')}: running",
    ]
    drilled = incident_lines(incident(drill=True, waits_for=["restore", "say\x1b[2J"]))
    assert drilled[0].startswith(f"{LONG}  SEV1 open (drill): ")
    assert drilled[2].startswith("  waits for restore, say")
    assert "\x1b" not in drilled[2]


def test_many_alarms_end_with_their_number() -> None:
    alarm = {"alarm": "a", "description": "d", "reason": "", "raised_at": "2026-11-23T20:46:01Z"}
    told = {"known": True, "looked_at": None, "alarms": [alarm] * 40}
    assert _as_text(told).splitlines()[-1] == "40 alarms are raised"
    assert _as_text(told | {"alarms": [alarm]}).splitlines()[-1] == "  d"
    assert _as_text(told | {"alarms": []}) == "no alarm is raised"
