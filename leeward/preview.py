"""Every message of a scenario before there is an incident: what, to whom, by which way, when."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from chalicelib.incidents.escalation import Level, levels_of
from chalicelib.incidents.messages import (
    PUBLIC_AUDIENCES,
    WAITS,
    Delivery,
    Notice,
    Way,
    audiences_of,
    deliveries_of,
    ways_of_call,
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
        yield from self._calls()
        for step in self._scenario.all_steps():
            yield from self._of_step(step)
        yield from self._by_itself("failed", "when a step fails", {"why": "(what failed)"})
        yield from self._by_itself("recovered", "when it has recovered", {}, lasts=LASTS)
        closed = {"by": "(who closes it)", "why": "(why it is over)"}
        yield from self._by_itself("closed", "when a person closes it", closed, lasts=LASTS)
        yield from self._late_ends()

    def _calls(self) -> Iterator[Preview]:
        """Who is called, until somebody says that they look after it."""
        for level in levels_of(self._plan.escalation, self._scenario.severity):
            yield self._call(level)
        until = format_time(self._opened_at + timedelta(minutes=30))
        said = {"by": "(who looks after it)", "until": until}
        yield from self._by_itself("acknowledged", "when somebody acknowledges it", said)

    def _call(self, level: Level) -> Preview:
        facts = {"who": level.who, "about": "an incident is open", "says": ""}
        notice = self._notice("page", facts, timedelta(0), drill=False)
        real, drill = (
            ", else ".join(_way(it) for it in ways_of_call(level.contact, self._plan, drill=drill))
            for drill in (False, True)
        )
        when = f"when nobody answers: {level.who}"
        words = write_message(notice, "internal")
        return Preview(when, "internal", *words, (real or "by hand",), (drill,) if drill else ())

    def _late_ends(self) -> Iterator[Preview]:
        """The end as those hear it who hear of long outages alone."""
        for audience, wait in WAITS.items():
            when = f"when it has recovered after {wait}"
            yield self._preview("recovered", audience, when, {}, wait)  # type: ignore[arg-type]

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
        outcome = "approved" if question["kind"] == "approve" else "done"
        answered = {"step": step.name, "outcome": outcome, "by": "(who answered)",
                    "why": "(what they said)"}  # fmt: skip
        yield from self._by_itself("answered", f"when {step.name} is answered", answered)

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
    ways = ", else ".join(_way(way) for way in delivery.ways)
    after = delivery.due_at - opened_at
    late = f", if it lasts {after}" if delivery.while_open else ""
    return f"{delivery.recipient}: {ways or 'by hand'}{late}"


def _way(way: Way) -> str:
    return f"{way.kind} {way.to}".strip()
