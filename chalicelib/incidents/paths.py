"""The path of an escalation, from its beginning: one machine for each subject of an incident."""

from __future__ import annotations

from chalicelib.incidents.approval import Question
from chalicelib.incidents.incident import Desk
from chalicelib.plan.model import Plan
from chalicelib.plan.records import digest_of, format_time

# Beside the scenarios' machines; no scenario has a name with an underscore.
MACHINE = "_escalation"
WHOLE_INCIDENT = "incident"


def start_path(incident: str, subject: str, *, plan: Plan, desk: Desk, factor: float = 1.0) -> None:
    """Let the path of a subject begin; again is no second one.

    Args:
        factor: real seconds for each second of the plan; less than 1 in tests.
    """
    if not plan.escalation:
        return
    item = {"started_at": format_time(desk.clock.now()), "factor": factor}
    desk.state.create(escalation_of(incident), f"path#{subject}", item)
    name = f"escalation-{digest_of([incident, subject])[:40]}"
    payload = {"incident": incident, "subject": subject}
    desk.workflows.start(MACHINE, name, payload)


def question_subject(question: Question) -> str:
    return f"{question.kind}/{question.step}/{question.run_id}"


def escalation_of(incident: str) -> str:
    """The partition of the state table."""
    return f"escalation#{incident}"
