"""Who acts and who is told: roles, contacts, channels, escalation."""

from __future__ import annotations

from typing import Literal

from chalicelib.plan.base import Name, PlanPart, Text
from chalicelib.plan.units import Duration

Power = Literal["declare", "approve", "execute", "override", "communicate", "report"]


class Role(PlanPart):
    """A role in an incident.

    may: what it is entitled to in a run. held_by: contacts. covered_by: the role that acts when
    nobody of this one answers.
    """

    title: Text
    duties: tuple[Text, ...] = ()
    may: tuple[Power, ...] = ()
    held_by: tuple[Name, ...] = ()
    covered_by: Name | None = None


class Contact(PlanPart):
    """A person or firm, or several who take turns (`team`), and the ways to reach them.

    concern: what they are called for.
    """

    title: Text
    reach: dict[Literal["phone", "email", "slack", "pagerduty", "console"], Text] = {}
    external: bool = False
    team: bool = False
    concern: Text | None = None


ChannelKind = Literal[
    "slack",
    "pagerduty",
    "email",
    "war-room",
    "status-page",
    "social",
    "support",
    "press",
    "law",
]


class Channel(PlanPart):
    """A way to tell many people something.

    hosted_in: the sites it needs; () when that is not known.
    after: only once an outage lasts longer.
    """

    kind: ChannelKind
    says: Text
    address: Text | None = None
    hosted_in: tuple[Name, ...] = ()
    after: Duration | None = None


class Communication(PlanPart):
    """Channels by name, for those inside and those outside."""

    internal: dict[Name, Channel] = {}
    external: dict[Name, Channel] = {}

    def sides(self) -> tuple[tuple[str, dict[str, Channel]], ...]:
        """Each side's name with its channels."""
        return ("internal", self.internal), ("external", self.external)

    def names(self) -> tuple[str, ...]:
        """Every channel's name."""
        return (*self.internal, *self.external)


class EscalationStep(PlanPart):
    """Who is called from `after` until `until` minutes into an unanswered incident.

    only: a condition in words, in place of a clock.
    """

    who: Text
    contact: Name | None = None
    after: Duration | None = None
    until: Duration | None = None
    only: Text | None = None


class PostIncident(PlanPart):
    """What is done after an incident: headings of the report, improvements, what customers hear."""

    report: tuple[Text, ...] = ()
    improvements: tuple[Text, ...] = ()
    customer_communication: tuple[Text, ...] = ()
