"""Who acts and who is told: roles, contacts, channels, escalation."""

from __future__ import annotations

from typing import Literal

from chalicelib.plan.base import Name, PlanPart, Text
from chalicelib.plan.units import Duration

# Who is told: each hears its own words of the same incident.
Audience = Literal["internal", "customers", "stakeholders", "press", "regulators", "legal"]

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
    """A person or firm, or several who take turns (`team`), and the ways to reach them, the first
    to be tried first.

    concern: what they are called for. audience: the one that they belong to, who are told of an
    incident one by one.
    """

    title: Text
    reach: dict[Literal["phone", "email", "slack", "pagerduty", "console"], Text] = {}
    external: bool = False
    team: bool = False
    concern: Text | None = None
    audience: Audience | None = None


ChannelKind = Literal[
    "slack",
    "pagerduty",
    "email",
    "sms",
    "webhook",
    "war-room",
    "dashboard",
    "status-page",
    "social",
    "support",
    "press",
    "law",
]


class Channel(PlanPart):
    """A way to tell many people something.

    drill: the address that drills use; without one a drill sends nothing here.
    audience: who hears it; by default those inside, or what the kind says (`press`, `law`), or
    customers. hosted_in: the sites it needs; () when that is not known.
    after: only once an outage lasts longer.
    """

    kind: ChannelKind
    says: Text
    address: Text | None = None
    drill: Text | None = None
    audience: Audience | None = None
    hosted_in: tuple[Name, ...] = ()
    after: Duration | None = None


_AUDIENCE_OF_KIND: dict[str, Audience] = {"press": "press", "law": "regulators"}


class Communication(PlanPart):
    """Channels by name, for those inside and those outside.

    secret: where the logins of the channels are kept, one JSON object (docs/messages.md).
    acknowledged_for: how long an acknowledgement keeps the escalation from going on.
    """

    secret: Text | None = None
    acknowledged_for: Duration | None = None
    internal: dict[Name, Channel] = {}
    external: dict[Name, Channel] = {}

    def sides(self) -> tuple[tuple[str, dict[str, Channel]], ...]:
        """Each side's name with its channels."""
        return ("internal", self.internal), ("external", self.external)

    def names(self) -> tuple[str, ...]:
        """Every channel's name."""
        return (*self.internal, *self.external)

    def status_pages(self) -> dict[str, Channel]:
        """The channels that are a status page."""
        everything = self.internal | self.external
        return {name: it for name, it in everything.items() if it.kind == "status-page"}

    def heard_by(self, audience: Audience) -> dict[str, Channel]:
        """The channels that an audience hears, in the plan's order."""
        return {
            name: channel
            for side, channels in self.sides()
            for name, channel in channels.items()
            if (channel.audience or _default_audience(side, channel)) == audience
        }


def _default_audience(side: str, channel: Channel) -> Audience:
    if side == "internal":
        return "internal"
    return _AUDIENCE_OF_KIND.get(channel.kind, "customers")


class PublicService(PlanPart):
    """What the status page calls a service. of: the components that it is made of: their health
    addresses are asked, and an incident of one of them is one of this service."""

    title: Text
    of: tuple[Name, ...]


class StatusPage(PlanPart):
    """The services that the page shows, by name, in the plan's order."""

    services: dict[Name, PublicService] = {}


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
    """What is done after an incident: headings of the report, improvements, what customers hear.

    remind_before: how long before its day the owner of an action is told of it; a week otherwise.
    """

    report: tuple[Text, ...] = ()
    improvements: tuple[Text, ...] = ()
    customer_communication: tuple[Text, ...] = ()
    remind_before: Duration | None = None
