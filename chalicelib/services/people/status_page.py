"""The status page: looked at each minute, written whenever something is said to everybody.

    tell (either stack)          a message to a status page: its object, then the pages
    publish (one stack, a clock) asks the public services, notes what it saw, writes the pages

One stack looks: the standby region's where there is one, which is where the bucket is. When it does
not, the page says since when.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import Any

from chalicelib.errors import BadInput, NotReady
from chalicelib.incidents.register import find_incident
from chalicelib.incidents.status.desk import StatusDesk
from chalicelib.incidents.status.page import Shown
from chalicelib.incidents.status.sources import STATES, key_of_update, update_of
from chalicelib.incidents.streams import people_stream
from chalicelib.plan.components import Bucket, Service
from chalicelib.plan.model import Plan
from chalicelib.plan.scenario import Scenario
from chalicelib.ports.notify import Message
from chalicelib.ports.status import StatusStore
from chalicelib.services import build, environment
from chalicelib.services.people.notices import notify
from chalicelib.verify.probes import HealthPolicy, Target, ask_all, policy_of

SUBJECT = "status-page"
# Below the minute in which the next look comes.
LOOK_SECONDS = 5.0
LONGEST_POST = 4000


def publish(event: dict[str, Any]) -> dict[str, Any]:
    """Look at the public services, note it, write the page. Asked each minute.

    Raises:
        NotReady: code "no-status-page".
    """
    desk = status_desk()
    answers = look_at_services()
    desk.look(answers, now=build.clock().now())
    page = desk.publish()
    if shows_drills(build.plan()):
        desk.publish(drill=True)
    build.metrics().put(SUBJECT, {"Published": 1.0})
    return {"found": f"{page.state}; {len(page.open)} incidents", "state": page.state}


def look_at_services() -> dict[str, bool]:
    """By service: whether everything of it that has an address answered well. One without any
    address is left out: nobody looked at it."""
    asked = [
        (service, target)
        for service, targets in targets_of(build.plan()).items()
        for target in targets
    ]
    slow = policy_of(build.plan()).slow_seconds
    policy = HealthPolicy(slow_seconds=slow, within_seconds=LOOK_SECONDS)
    found: dict[str, bool] = {}
    answers = ask_all([target for _, target in asked], build.prober(), policy)
    for (service, _), (_, answer) in zip(asked, answers, strict=True):
        found[service] = found.get(service, True) and answer.good
    return found


def targets_of(plan: Plan) -> dict[str, list[Target]]:
    """What is asked for each public service."""
    return {
        name: [
            Target(component, it.health, it.health_says or "")
            for component in service.of
            if isinstance(it := plan.components[component], Service | Bucket) and it.health
        ]
        for name, service in plan.status_page.services.items()
    }


def shown_of(plan: Plan) -> Shown:
    services = {name: it.title for name, it in plan.status_page.services.items()}
    named = [it.address for it in plan.communication.status_pages().values() if it.address]
    address = f"https://{named[0].removeprefix('https://').strip('/')}/" if named else ""
    return Shown(plan.name, plan.organisation, services, address)


def shows_drills(plan: Plan) -> bool:
    return any(it.drill for it in plan.communication.status_pages().values())


def services_of(scenario: Scenario, name: str, plan: Plan) -> tuple[str, ...]:
    """The public services that an incident of the scenario concerns: by what it is about, what it
    restores, and what runs at the sites that it loses."""
    about = scenario.restored_components() | {scenario.subject(name)}
    lost = {key for key, it in plan.components.items() if it.site in scenario.loses}
    return tuple(
        service for service, it in plan.status_page.services.items() if set(it.of) & (about | lost)
    )


class StatusSender:
    """The `Sender` port. Taken when the page shows it."""

    def __init__(self, store: StatusStore, desk: StatusDesk) -> None:
        self._store, self._desk = store, desk

    def send(self, message: Message, to: str) -> str:
        incident = find_incident(message.incident, state=build.state())
        plan = build.plan()
        scenario = plan.scenarios.get(incident.scenario)
        concerned = services_of(scenario, incident.scenario, plan) if scenario else ()
        update = update_of(message, concerned)
        key = key_of_update(update, drill=message.drill)
        self._store.note(key, json.dumps(update.to_json(), ensure_ascii=False).encode())
        if not message.drill or shows_drills(plan):
            self._desk.publish(drill=message.drill)
        return key


@cache
def status_store() -> StatusStore:
    """Raises NotReady (code "no-status-page")."""
    from chalicelib.adapters.notify.status_object import StatusBucket, connect_status

    bucket = environment.status_bucket()
    if not bucket:
        raise NotReady(
            "expected a bucket for the status page, the deployment has none",
            hint="name a channel of kind status-page in the plan, and deploy the package",
            code="no-status-page",
        )
    return StatusBucket(connect_status(environment.status_region()), bucket)


@cache
def status_desk() -> StatusDesk:
    return StatusDesk(status_store(), shown_of(build.plan()))


def status_sender() -> StatusSender | None:
    """None when the deployment has no status page."""
    return StatusSender(status_store(), status_desk()) if environment.status_bucket() else None


@dataclass(frozen=True)
class Post:
    """Words of a communicator's own. key: one for each time that they are said."""

    incident: str
    run_id: str
    text: str
    state: str
    key: str


def require_post(event: dict[str, Any]) -> Post:
    """{"incident", "text", "state", "key"}, looked at before a code is used up.

    Raises:
        BadInput: codes "bad-post", "unknown-incident".
        NotReady: code "no-status-page".
    """
    text, state = str(event.get("text") or "").strip(), str(event.get("state") or "identified")
    if state not in STATES or not text or len(text) > LONGEST_POST:
        raise BadInput(
            f"expected words of at most {LONGEST_POST:,} letters and a state, found "
            f"{len(text):,} letters and {state[:40]!r}",
            hint=f"the state is one of: {', '.join(STATES)}",
            code="bad-post",
        )
    status_store()
    incident = find_incident(str(event.get("incident")), state=build.state())
    return Post(incident.id, incident.run_id, text, state, str(event.get("key") or ""))


def post(words: Post, by: str) -> dict[str, Any]:
    """Record them, and have `tell` put them on the page."""
    body = {"by": by, "state": words.state, "text": words.text}
    stream, key = people_stream(words.incident), f"posted/{words.key}"
    build.records().append(stream, "status-posted", body, actor=by, key=key)
    notify(
        "posted",
        words.incident,
        run_id=words.run_id,
        about=f"{by}/{words.key}",
        text=words.text,
        state=words.state,
    )
    found = f"{words.state}, by {by}: on the page within a minute"
    return {"incident": words.incident, "found": found}
