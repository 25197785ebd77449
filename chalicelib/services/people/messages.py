"""What is told of an incident: notices become messages, messages are sent until they arrived."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from functools import cache
from typing import Any

from chalicelib.errors import BadInput, LeewardError, NotReady, Unavailable
from chalicelib.incidents.incident import Incident
from chalicelib.incidents.messages import (
    PUBLIC_AUDIENCES,
    Delivery,
    Notice,
    audiences_of,
    deliveries_of,
    posts_of,
)
from chalicelib.incidents.messages_outbox import (
    CLAIM,
    GIVEN_UP,
    OutboxDesk,
    Tried,
    audiences_told,
    keep,
    reserved,
    send_due,
    send_now,
    told_partition,
    undelivered,
)
from chalicelib.incidents.messages_text import facts_of, write_message
from chalicelib.incidents.register import find_incident, is_drill
from chalicelib.incidents.run import Run
from chalicelib.incidents.streams import people_stream
from chalicelib.plan.people import Audience
from chalicelib.plan.records import format_time, parse_time
from chalicelib.ports.notify import Settings
from chalicelib.services import build
from chalicelib.services.people.escalation import judge_deliveries
from chalicelib.services.people.notices import NOTICES

SEND_SECONDS = 25.0
STEP_SECONDS = 20.0
PAUSE_SECONDS = 3.0


def tell(event: dict[str, Any]) -> dict[str, Any]:
    """Turn what was noticed into messages, and send what is due. Asked each minute, and when
    something is noticed.

    Raises what a notice raised that cannot be turned, after all the others were and were sent.
    """
    tried: list[Tried] = []
    with ExitStack() as calls:
        calls.callback(lambda: tried.extend(send_due(outbox_desk(), seconds=SEND_SECONDS)))
        # What was pushed last is called first, so the first notice comes first.
        for item in reversed(list(build.state().query(NOTICES))):
            calls.callback(_expand, item)
    told = sum(it.told for it in tried)
    given_up = sum(it["status"] == GIVEN_UP for it in undelivered(build.state()))
    build.metrics().put("people", {"OutboxLooked": 1.0, "Untold": float(given_up)})
    return {"found": f"{told} told, {len(tried) - told} not", "told": told, "tried": len(tried)}


def _expand(item: dict[str, Any]) -> None:
    """Its messages are in the outbox before the notice is gone."""
    incident = find_incident(item["incident"], state=build.state())
    notice = notice_of(
        incident,
        item["what"],
        about=item["about"],
        at=item["noticed_at"],
        facts=item["facts"],
        run_id=item["run_id"],
    )
    told = audiences_told(incident.id, state=build.state())
    personal = bool(notice.facts["personal_data"])
    if item["what"] == "posted":
        subject, _ = write_message(replace(notice, what="update"), "customers")
        keep(posts_of(notice, subject, plan=build.plan()), state=build.state())
    for audience in audiences_of(item["what"], told, personal_data=personal):
        keep(_written(notice, audience), state=build.state())
    if item["what"] == "opened" and personal:
        _start_clock(notice)
    kept = {"noticed_at": item["noticed_at"]}
    build.state().create(f"told-notices#{incident.id}", item["sort"], kept)
    build.state().remove(NOTICES, item["sort"], expected={})


def _start_clock(notice: Notice) -> None:
    """GDPR's 72 hours: recorded when they begin to run."""
    build.records().append(
        people_stream(notice.incident),
        "clock-started",
        {"clock": "GDPR, article 33: 72 h", "due_at": notice.facts["clock_due_at"]},
        actor="leeward",
        key="clock-started/gdpr",
    )


def notice_of(
    incident: Incident, what: str, *, about: str, at: str, facts: dict[str, Any], run_id: str = ""
) -> Notice:
    run = build.state().get(f"run#{run_id or incident.run_id}", "run") or {}
    known = facts_of(build.plan(), incident.scenario, incident.to_json(), run)
    return Notice(
        id=f"{what}/{about}",
        incident=incident.id,
        what=what,
        severity=incident.severity,
        opened_at=incident.opened_at,
        noticed_at=parse_time(at),
        drill=bool(run.get("drill")) or is_drill(incident),
        facts=known | facts,
    )


def _written(notice: Notice, audience: Audience) -> tuple[Delivery, ...]:
    subject, text = write_message(notice, audience)
    public = None if audience in PUBLIC_AUDIENCES else write_message(notice, "customers")
    return deliveries_of(notice, audience, subject, text, plan=build.plan(), public=public)


def tell_step(run: Run, inputs: dict[str, Any]) -> dict[str, Any]:
    """Tell an audience; the step is done when one of its channels has taken the message.

    Raises:
        NotReady: codes "nobody-to-tell", "nobody-told" when trying again will not help.
        Unavailable: code "nobody-told": no channel took it yet.
    """
    audience: Any = inputs["audience"]
    what = str(inputs.get("template") or "update")
    incident = find_incident(run.incident_id, state=build.state())
    says = str(inputs.get("says") or "the recovery goes on")
    notice = notice_of(
        incident,
        what,
        about=f"{run.run_id}/{run.step}",
        at=_first_said_at(run),
        facts={"says": says, "step": run.step, "by": "", "why": ""},
        run_id=run.run_id,
    )
    wanted = tuple(reserved(delivery) for delivery in _written(notice, audience))
    if not wanted:
        raise _nobody(audience, drill=notice.drill)
    keep(wanted, state=build.state())
    return _tell_until(build.clock().now() + CLAIM, wanted, audience)


def _tell_until(until: datetime, wanted: tuple[Delivery, ...], audience: str) -> dict[str, Any]:
    """A worker that died has claimed the messages: they are free again when its claim ends."""
    while True:
        send_now(wanted, outbox_desk(), seconds=STEP_SECONDS)
        try:
            return _outcome(wanted, audience)
        except Unavailable:
            if build.clock().now() > until:
                raise
        build.clock().sleep(PAUSE_SECONDS)


def _first_said_at(run: Run) -> str:
    """The same instant at each attempt: the message is the same one."""
    partition, sort = f"run#{run.run_id}", f"told#{run.step}"
    item = {"at": format_time(build.clock().now())}
    build.state().create(partition, sort, item)
    kept = build.state().get(partition, sort) or item
    return str(kept["at"])


def _outcome(wanted: tuple[Delivery, ...], audience: str) -> dict[str, Any]:
    state, incident = build.state(), wanted[0].message.incident
    told = [it.recipient for it in wanted if state.get(told_partition(incident), it.id) is not None]
    left = {
        item["delivery"]["recipient"]: item
        for item in undelivered(state, incident)
        if item["delivery"]["message"]["id"] == wanted[0].message.id
    }
    now = build.clock().now()
    held = [
        name for name, it in left.items() if not it["attempts"] and parse_time(it["due_at"]) > now
    ]
    if not told and not held:
        raise _not_told(audience, left)
    found = f"{audience} told by {', '.join(told)}" if told else f"{audience}: not before its time"
    if left:
        found += f"; not yet: {', '.join(sorted(left))}"
    return {"found": found, "told": told, "waiting": sorted(left)}


def _not_told(audience: str, left: dict[str, dict[str, Any]]) -> LeewardError:
    why = "; ".join(f"{name}: {', '.join(it['why'])}" for name, it in sorted(left.items()))
    text = f"no channel of {audience} took the message: {why}"[:2000]
    if all(it["status"] == GIVEN_UP for it in left.values()):
        hint = "tell them yourself (the words are in the outbox), and mend the channel"
        return NotReady(text, hint=hint, code="nobody-told")
    return Unavailable(text, hint="it is tried again", code="nobody-told")


def _nobody(audience: str, *, drill: bool) -> NotReady:
    if drill:
        return NotReady(
            f"expected an address for drills on a channel of {audience}, found none in the plan",
            hint="write `drill:` at one of its channels; a drill reaches those alone",
            code="nobody-to-tell",
        )
    return NotReady(
        f"expected a channel or a contact of {audience}, found none in the plan",
        hint="name the `audience` of a channel under `communication`, or of a contact",
        code="nobody-to-tell",
    )


@cache
def outbox_desk() -> OutboxDesk:
    from chalicelib.adapters.notify.senders import ChannelSenders
    from chalicelib.incidents.threads import StoredThreads
    from chalicelib.services.people.status_page import status_sender

    senders = ChannelSenders(
        channel_settings,
        build.client,
        status=status_sender(),
        threads=StoredThreads(build.state()),
    )
    return OutboxDesk(build.state(), build.records(), build.clock(), senders, judge_deliveries)


def channel_settings() -> Settings:
    """The logins, read anew for each sender: a login that was mended counts at once."""
    name = build.plan().communication.secret
    if name is None:
        return {}
    from chalicelib.adapters.aws_errors import mapped

    with mapped("secretsmanager", secret=name):
        text = build.client("secretsmanager").get_secret_value(SecretId=name)["SecretString"]
    try:
        found: Settings = json.loads(text)
    except ValueError:
        found = {}
    if not isinstance(found, dict):
        raise BadInput(
            f"expected one JSON object in the secret {name}, found something else",
            hint="docs/messages.md tells what it holds",
            code="bad-channel-secret",
        )
    return found
