"""The exercises that the plan promises: when each is due, what its last times came to."""

from __future__ import annotations

from typing import Any

from chalicelib.plan.records import format_time
from chalicelib.services import build

Event = dict[str, Any]


def exercises_view(_event: Event) -> Event:
    """{"as_of", "exercises": [{"name", "says", "scenarios", "stands", "next_due_at",
    "occasions"}]}; those that this region's stack looks after."""
    from chalicelib.services.jobs.exercises import exercise

    return {"as_of": format_time(build.clock().now())} | exercise({"list": True})
