"""Who there is, what each may, and what waits for them."""

from __future__ import annotations

from typing import Any

from chalicelib.incidents.approval import Question, entitled_roles
from chalicelib.incidents.register import list_incidents
from chalicelib.plan.records import parse_time
from chalicelib.services import build
from chalicelib.services.views.incidents import questions_of

Event = dict[str, Any]
# What a question that waits does not have.
ANSWERED = ("answered", "answered_at")


def approvals_view() -> Event:
    """Of every run that goes on, what waits for people: the most urgent first."""
    found = [
        {
            "run": incident.run_id,
            "incident": incident.id,
            "scenario": incident.scenario,
            **{name: value for name, value in question.items() if name not in ANSWERED},
            "people": _who_may(incident.run_id, question),
        }
        for incident in list_incidents(build.state())
        for question in questions_of(incident.run_id)
        if not question["answered"]
    ]
    return {"approvals": sorted(found, key=lambda it: (it["until"], it["run"], it["step"]))}


def _who_may(run_id: str, asked: Event) -> list[str]:
    """Those who hold a role that was asked, and those who cover for them by now."""
    question = Question(
        run_id=run_id,
        step=asked["step"],
        kind=asked["kind"],
        roles=tuple(asked["roles"]),
        count=asked["count"],
        says=asked["says"],
        asked_at=parse_time(asked["asked_at"]),
        deadline_at=parse_time(asked["until"]),
    )
    known, now = build.plan().roles, build.clock().now()
    people = {by for role in known.values() for by in role.held_by}
    return sorted(it for it in people if entitled_roles(question, it, known, now=now))


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
