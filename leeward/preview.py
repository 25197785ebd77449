"""Every message of a scenario before there is an incident: what, to whom, by which way, when."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from chalicelib.incidents.messages import (
    PUBLIC_AUDIENCES,
    WAITS,
    Delivery,
    Notice,
    audiences_of,
    deliveries_of,
)
from chalicelib.incidents.messages_text import facts_of, write_message
from chalicelib.plan.model import Plan
from chalicelib.plan.people import Audience
from chalicelib.plan.records import format_time
from chalicelib.plan.scenario import Step
from chalicelib.scenarios.compile import limit_seconds

INCIDENT, RUN = "inc-EXAMPLE", "run-EXAMPLE"
# The end of the example incident: an hour after its beginning.
LASTS = timedelta(hours=1)


@dataclass(frozen=True)
class Preview:
    """A message of an occasion, and where it goes for real and in a drill."""

    when: str
    audience: str
    subject: str
    text: str
    real: tuple[str, ...]
    drill: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))


def preview_messages(plan: Plan, scenario: str) -> list[Preview]:
    """In the order in which they would come, for an incident that opens now."""
    opened_at = datetime.now(UTC).replace(second=0, microsecond=0)
    made = _Maker(plan, scenario, opened_at)
    return list(made.all())


class _Maker:
    def __init__(self, plan: Plan, scenario: str, opened_at: datetime) -> None:
        self._plan, self._name, self._opened_at = plan, scenario, opened_at
        self._scenario = plan.scenarios[scenario]
        self._told: set[str] = set()

    def all(self) -> Iterator[Preview]:
        yield from self._by_itself("opened", "when the incident opens", {})
        for step in self._scenario.all_steps():
            yield from self._of_step(step)
        yield from self._by_itself("failed", "when a step fails", {"why": "(what failed)"})
        yield from self._by_itself("recovered", "when it has recovered", {}, lasts=LASTS)

    def _of_step(self, step: Step) -> Iterator[Preview]:
        if step.approve:
            within = int(step.approve.within.total_seconds())
            question = {"kind": "approve", "count": step.approve.count,
                        "otherwise": step.approve.otherwise}  # fmt: skip
            yield from self._asked(step, step.approve.by, within, question)
        if step.by:
            question = {"kind": "do", "count": 1, "otherwise": "stop"}
            yield from self._asked(step, (step.by,), limit_seconds(step), question)
        if step.uses == "people.tell":
            says = str(step.inputs.get("says") or "the recovery goes on")
            facts = {"says": says, "step": step.name, "by": "", "why": ""}
            audience: Any = step.inputs["audience"]
            what = str(step.inputs.get("template") or "update")
            yield self._preview(what, audience, f"step {step.name}", facts, timedelta(0))

    def _asked(
        self, step: Step, roles: tuple[str, ...], seconds: int, question: dict[str, Any]
    ) -> Iterator[Preview]:
        titles = [self._plan.roles[name].title for name in roles if name in self._plan.roles]
        facts = question | {
            "step": step.name,
            "says": step.says,
            "roles": " or ".join(titles),
            "deadline_at": format_time(self._opened_at + timedelta(seconds=seconds)),
        }
        yield from self._by_itself("asked", f"before step {step.name}", facts)

    def _by_itself(
        self, what: str, when: str, facts: dict[str, Any], lasts: timedelta = timedelta(0)
    ) -> Iterator[Preview]:
        personal = self._scenario.personal_data
        for audience in audiences_of(what, frozenset(self._told), personal_data=personal):
            yield self._preview(what, audience, when, facts, lasts)

    def _preview(
        self, what: str, audience: Audience, when: str, facts: dict[str, Any], lasts: timedelta
    ) -> Preview:
        if audience not in WAITS:
            self._told.add(audience)
        real, drill = (self._deliveries(what, audience, facts, lasts, it) for it in (False, True))
        subject, text = write_message(self._notice(what, facts, lasts, drill=False), audience)
        return Preview(when, audience, subject, text, real, drill)

    def _deliveries(
        self, what: str, audience: Audience, facts: dict[str, Any], lasts: timedelta, drill: bool
    ) -> tuple[str, ...]:
        notice = self._notice(what, facts, lasts, drill=drill)
        words = write_message(notice, audience)
        public = None if audience in PUBLIC_AUDIENCES else write_message(notice, "customers")
        found = deliveries_of(notice, audience, *words, plan=self._plan, public=public)
        return tuple(_shown(delivery, self._opened_at) for delivery in found)

    def _notice(self, what: str, facts: dict[str, Any], lasts: timedelta, *, drill: bool) -> Notice:
        scenario = self._scenario
        incident = {
            "component": scenario.subject(self._name),
            "opened_at": format_time(self._opened_at),
            "signal": "(the alarm, or who declared it)",
        }
        known = facts_of(self._plan, self._name, incident, {"run_id": RUN})
        at = self._opened_at + lasts
        return Notice(
            what, INCIDENT, what, scenario.severity, self._opened_at, at, drill, known | facts
        )


def _shown(delivery: Delivery, opened_at: datetime) -> str:
    """ "email ops@example.org", "cto: sms +1..., else email ...", "twitter: by hand"."""
    ways = ", else ".join(f"{way.kind} {way.to}".strip() for way in delivery.ways)
    after = delivery.due_at - opened_at
    late = f", if it lasts {after}" if delivery.while_open else ""
    return f"{delivery.recipient}: {ways or 'by hand'}{late}"
