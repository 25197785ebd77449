"""A step that waits for people: the question, recorded, and the token that its answer carries.

The token itself is a right to let the run go on: it lies in the state table, never in a record.
"""

from __future__ import annotations

from typing import Any

from chalicelib.incidents.incident import Desk
from chalicelib.incidents.run import load_run
from chalicelib.plan.records import format_time


def put_question(event: dict[str, Any], *, desk: Desk) -> dict[str, Any]:
    """Keep the question until it is answered or the run's clock for it ends.

    Args:
        event: {"run_id", "step", "uses": "people.do" | "people.approve", "inputs", "token"}.
    """
    run = load_run(event["run_id"], desk=desk)
    kind = event["uses"].removeprefix("people.")
    sort = f"question#{kind}#{event['step']}"
    item = {
        "step": event["step"],
        "kind": kind,
        "question": event["inputs"],
        "token": event["token"],
        "asked_at": format_time(desk.clock.now()),
    }
    partition = f"run#{run.run_id}"
    # A retried state brings a new token; the one before it is dead.
    if not desk.state.create(partition, sort, item):
        desk.state.replace(partition, sort, item, expected={})
    desk.records.append(
        run.incident_id,
        "asked",
        {"kind": kind, **event["inputs"]},
        actor="leeward",
        run_id=run.run_id,
        step=event["step"],
        key=f"{run.run_id}/{event['step']}/asked-{kind}",
    )
    return {"found": f"waiting for {kind}"}
