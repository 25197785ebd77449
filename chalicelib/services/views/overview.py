"""Everything that the first page shows, in one look: the copies are read once for all of it."""

from __future__ import annotations

from typing import Any

from chalicelib.plan.records import format_time
from chalicelib.services import build
from chalicelib.services.views.actions import actions_view
from chalicelib.services.views.alarms import alarms_view
from chalicelib.services.views.copies import read_all
from chalicelib.services.views.exercises import exercises_view
from chalicelib.services.views.incidents import ended_lines, list_view
from chalicelib.services.views.people import approvals_view
from chalicelib.services.views.readiness import tell_readiness
from chalicelib.services.views.rpo import tell_rpo

Event = dict[str, Any]
PAST = 6


def overview_view(_event: Event) -> Event:
    """{"as_of", "plan", "incidents" (open), "ended", "approvals", "alarms", "readiness", "rpo",
    "exercises", "failing" (exercises), "open" and "overdue" (actions), "plan_review"}, as their
    verbs tell it.
    """
    now, copies = build.clock().now(), read_all()
    exercises = exercises_view({})["exercises"]
    return {
        "as_of": format_time(now),
        "plan": build.plan().name,
        "incidents": list_view(ended=False)["incidents"],
        "ended": ended_lines(PAST),
        "approvals": approvals_view()["approvals"],
        "alarms": alarms_view({}),
        "readiness": tell_readiness(copies, now=now),
        "rpo": tell_rpo(copies, now=now),
        "exercises": len(exercises),
        "failing": [it["name"] for it in exercises if not it["stands"]],
        **_left_to_do(),
    }


def _left_to_do() -> Event:
    told = actions_view()
    return {name: told[name] for name in ("open", "overdue", "plan_review")}
