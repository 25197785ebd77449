"""A step that waits for people: the question, recorded, and the token that its answer carries.

The token itself is a right to let the run go on: it lies in the state table, never in a record.
"""

from __future__ import annotations

from typing import Any

from chalicelib.incidents.answer import (
    AnswerDesk,
    question_from,
    read_run,
    read_verdict,
    tell_run,
)
from chalicelib.incidents.approval import Question
from chalicelib.plan.records import format_time


def put_question(event: dict[str, Any], *, desk: AnswerDesk) -> Question:
    """Keep the question until it is answered or the run's clock for it ends.

    A retried state brings a new token, the one before it is dead: what was answered already is
    told to the new one.

    Args:
        event: {"run_id", "step", "uses": "people.do" | "people.approve", "inputs", "token"}.
    Raises:
        BadInput: code "unknown-run".
    """
    run = read_run(event["run_id"], desk.state)
    kind = event["uses"].removeprefix("people.")
    sort = f"question#{kind}#{event['step']}"
    item = {
        "step": event["step"],
        "kind": kind,
        "question": event["inputs"],
        "token": event["token"],
        "asked_at": format_time(desk.clock.now()),
    }
    partition = f"run#{event['run_id']}"
    if not desk.state.create(partition, sort, item):
        desk.state.replace(partition, sort, item, expected={})
    question = question_from(item, run)
    desk.records.append(
        run["incident_id"],
        "asked",
        {"kind": kind, **event["inputs"]},
        actor="leeward",
        run_id=question.run_id,
        step=question.step,
        key=f"{question.run_id}/{question.step}/asked-{kind}",
    )
    verdict = read_verdict(question, desk.state)
    if verdict is not None:
        tell_run(question, verdict, run, desk=desk)
    return question
