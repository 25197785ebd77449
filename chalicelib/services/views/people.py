"""Who there is, what each may, and what waits for them."""

from __future__ import annotations

from typing import Any

from chalicelib.incidents.register import list_incidents
from chalicelib.services import build
from chalicelib.services.views.incidents import questions_of

Event = dict[str, Any]


def approvals_view() -> Event:
    """Of every run that goes on, what waits for people: the most urgent first."""
    found = [
        {
            "run": incident.run_id,
            "incident": incident.id,
            "scenario": incident.scenario,
            **{name: value for name, value in question.items() if name != "answered"},
            "people": _holders(question["roles"]),
        }
        for incident in list_incidents(build.state())
        for question in questions_of(incident.run_id)
        if not question["answered"]
    ]
    return {"approvals": sorted(found, key=lambda it: (it["until"], it["run"], it["step"]))}


def _holders(roles: list[str]) -> list[str]:
    known = build.plan().roles
    return sorted({by for name in roles if name in known for by in known[name].held_by})


def people_view() -> Event:
    """Roles and contacts of the deployed plan; no address, number or secret of anybody."""
    plan = build.plan()
    return {
        "people": [
            {
                "person": name,
                "title": contact.title,
                "external": contact.external,
                "roles": [role for role, it in plan.roles.items() if name in it.held_by],
            }
            for name, contact in plan.contacts.items()
        ],
        "roles": [
            {
                "role": name,
                "title": role.title,
                "may": list(role.may),
                "held_by": list(role.held_by),
                "covered_by": role.covered_by,
            }
            for name, role in plan.roles.items()
        ],
    }
