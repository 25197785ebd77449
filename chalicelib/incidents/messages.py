"""Who is told what of an incident, and by which ways. Pure.

    a notice ("opened", for those inside) -> one delivery for each channel and contact of the
    audience -> the outbox (messages_outbox.py)

A channel is one way. A person has several, tried in the plan's order until one takes the message.
In a drill nothing goes anywhere but to the addresses that the plan gives for drills, marked DRILL.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from chalicelib.plan.model import Plan
from chalicelib.plan.people import Audience, Channel, Contact
from chalicelib.plan.records import Record, digest_of
from chalicelib.ports.notify import Message

# A contact's way -> the kind of channel that it is.
KIND_OF_WAY: Mapping[str, str] = {
    "phone": "sms",
    "email": "email",
    "slack": "slack",
    "pagerduty": "pagerduty",
}
# These are reached by e-mail where the plan gives an address of it, else by a person.
BY_MAIL_OR_HAND = ("press", "law", "support", "social")
# Their address is kept with their login, or is the deployment's own.
ADDRESS_IN_LOGIN = ("pagerduty", "webhook", "status-page")
# Who hears of what without a step that says so. Customers are told by a person's decision, which is
# a step of the scenario; whoever was told of the beginning is told of the end.
HEARD_BY: Mapping[str, tuple[Audience, ...]] = {
    "opened": ("internal", "press"),
    "asked": ("internal",),
    "answered": ("internal",),
    "acknowledged": ("internal",),
    "failed": ("internal",),
    "recovered": ("internal",),
    "closed": ("internal",),
}
ENDS = ("recovered", "closed")
# What stands on a status page is read by everybody: words of other audiences never do, and of the
# occasions of those inside only these.
PUBLIC_AUDIENCES = ("customers", "press")
ON_STATUS_PAGE = ("opened", "update", *ENDS)
# They are places to go to, and stand in what those inside are told.
LINES = ("war-room", "dashboard")
# The press hears of major disruptions, which both documents begin at four hours.
WAITS: Mapping[str, timedelta] = {"press": timedelta(hours=4)}
# Regulation (EU) 2016/679, article 33 (1): not later than 72 hours after having become aware.
REGULATORS_WITHIN = timedelta(hours=72)


@dataclass(frozen=True)
class Way(Record):
    """kind: of channel. name: its name, or the contact's, by which a login may be kept."""

    kind: str
    name: str
    to: str


@dataclass(frozen=True)
class Delivery(Record):
    """A message to one recipient.

    while_open: it is dropped when the incident is over before it is due. subject: what a page
    calls somebody for; it is dropped when that is answered or acknowledged.
    """

    message: Message
    recipient: str
    ways: tuple[Way, ...]
    due_at: datetime
    while_open: bool = False
    subject: str = ""

    @classmethod
    def _revive(cls, name: str, value: Any) -> Any:
        if name == "message":
            return Message.from_json(value)
        if name == "ways":
            return tuple(Way.from_json(item) for item in value)
        return super()._revive(name, value)

    @property
    def id(self) -> str:
        return f"{self.message.id}#{self.recipient}"


@dataclass(frozen=True)
class Notice(Record):
    """Something to tell. id: the same notice again is told once. facts: for the templates."""

    id: str
    incident: str
    what: str
    severity: str
    opened_at: datetime
    noticed_at: datetime
    drill: bool
    facts: dict[str, Any]


def deliveries_of(
    notice: Notice,
    audience: Audience,
    subject: str,
    text: str,
    *,
    plan: Plan,
    public: tuple[str, str] | None = None,
) -> tuple[Delivery, ...]:
    """One for each recipient of the audience. One without a way is for a person to make.

    Args:
        public: subject and text for a status page, in place of the audience's own; None where
            those are for everybody.
    """
    own = _message(notice, audience, subject, text)
    shown = _message(notice, audience, *public) if public else own
    return tuple(
        Delivery(
            shown if _is_page(ways) else own,
            name,
            ways,
            max(notice.noticed_at, due_at),
            while_open=late,
        )
        for name, ways, due_at, late in _recipients(notice, audience, plan)
        if (ways or not notice.drill) and (not _is_page(ways) or may_show(notice.what, audience))
    )


def _is_page(ways: tuple[Way, ...]) -> bool:
    return any(way.kind == "status-page" for way in ways)


def may_show(what: str, audience: Audience) -> bool:
    """Whether an occasion of the audience stands on a status page that it hears."""
    return audience in PUBLIC_AUDIENCES or what in ON_STATUS_PAGE


def posts_of(notice: Notice, subject: str, *, plan: Plan) -> tuple[Delivery, ...]:
    """A communicator's own words (facts "text" and "state"), for the status page alone."""
    text, state = str(notice.facts["text"]), str(notice.facts["state"])
    message = replace(_message(notice, "customers", subject, text), state=state)
    pages = list(plan.communication.status_pages())[:1]
    return tuple(
        Delivery(message, name, (Way("status-page", name, ""),), notice.noticed_at)
        for name in pages
    )


def page_of(
    notice: Notice, title: str, text: str, *, ways: tuple[Way, ...], recipient: str, subject: str
) -> Delivery:
    """A call of one person, by the first of the ways that takes it."""
    message = _message(notice, "internal", title, text)
    return Delivery(message, recipient, ways, notice.noticed_at, subject=subject)


def _message(notice: Notice, audience: Audience, subject: str, text: str) -> Message:
    return Message(
        id=digest_of([notice.incident, notice.id, audience])[:32],
        incident=notice.incident,
        what=notice.what,
        audience=audience,
        severity=notice.severity,
        subject=f"DRILL: {subject}" if notice.drill else subject,
        text=f"{text}\n\nThis is a drill. Nothing is wrong." if notice.drill else text,
        drill=notice.drill,
        written_at=notice.noticed_at,
        # Not over for those who miss what is lost: a communicator says when it is.
        state="monitoring" if notice.what == "recovered" and notice.facts.get("lost") else "",
        **_question(notice),
    )


def _question(notice: Notice) -> dict[str, str]:
    """What those inside are asked, so that a channel with buttons can offer them."""
    if notice.what != "asked":
        return {}
    return {name: str(notice.facts.get(name, "")) for name in ("run_id", "step", "kind")}


def _recipients(
    notice: Notice, audience: Audience, plan: Plan
) -> Iterator[tuple[str, tuple[Way, ...], datetime, bool]]:
    """Name, ways, when it is due, whether it is dropped if the incident is over by then."""

    def held(after: timedelta | None) -> tuple[datetime, bool]:
        wait = after or WAITS.get(audience)
        late = wait is not None and notice.what not in ENDS
        return (notice.opened_at + wait, True) if wait and late else (notice.noticed_at, False)

    for name, channel in plan.communication.heard_by(audience).items():
        if channel.kind not in LINES:
            ways = ways_of_channel(name, channel, drill=notice.drill)
            yield name, ways, *held(channel.after)
    people = {name: it for name, it in plan.contacts.items() if it.audience == audience}
    if notice.drill:
        # Nobody is called in a drill: one message, where drills are read, in place of all of them.
        inside = inside_ways(plan, drill=True) if people else ()
        yield f"in-place-of-{audience}", inside, *held(None)
        return
    for name, contact in people.items():
        yield name, ways_to(name, contact), *held(None)


def ways_of_channel(name: str, channel: Channel, *, drill: bool) -> tuple[Way, ...]:
    """() when nothing but a person can use it, or when it has no address for drills."""
    to = (channel.drill if drill else channel.address) or ""
    if channel.kind in BY_MAIL_OR_HAND:
        return (Way("email", name, to),) if "@" in to[1:] else ()
    if channel.kind in ADDRESS_IN_LOGIN:
        return (Way(channel.kind, name, to if channel.kind == "webhook" else ""),)
    return (Way(channel.kind, name, to),) if to else ()


def inside_ways(plan: Plan, *, drill: bool) -> tuple[Way, ...]:
    """The channels of those inside, a pager first."""
    inside = plan.communication.heard_by("internal")
    ways = [
        way
        for name, channel in inside.items()
        if channel.kind not in ("status-page", *LINES)
        for way in ways_of_channel(name, channel, drill=drill)
    ]
    return tuple(sorted(ways, key=lambda way: way.kind != "pagerduty"))


def ways_to(name: str, contact: Contact) -> tuple[Way, ...]:
    """A person's ways that Leeward can use, in the plan's order."""
    return tuple(
        Way(KIND_OF_WAY[way], name, address)
        for way, address in contact.reach.items()
        if way in KIND_OF_WAY
    )


def ways_of_call(contact: str, plan: Plan, *, drill: bool) -> tuple[Way, ...]:
    """How a person is called: by their own ways, else by the channels of those inside; in a drill,
    by the latter alone. contact: "" for whom the plan knows no contact."""
    person = plan.contacts.get(contact)
    own = ways_to(contact, person) if person and not drill else ()
    return own or inside_ways(plan, drill=drill)


def why_too_late(delivery: Delivery, status: str) -> str:
    """Why it must not be sent any more for the incident's status; "" when it may.

    A pager's alert that is opened after its end would stay open for ever.
    """
    if status == "open":
        return ""
    pages = any(way.kind == "pagerduty" for way in delivery.ways)
    if delivery.while_open or (pages and delivery.message.what not in (*ENDS, "failed", "update")):
        return f"the incident is {status}"
    return ""


def audiences_of(
    what: str, told_before: frozenset[str], *, personal_data: bool
) -> tuple[Audience, ...]:
    """Who hears of an occasion by itself: those of HEARD_BY, lawyers where people's data may be
    concerned, and of the end whoever heard of the beginning."""
    heard: list[Any] = list(HEARD_BY.get(what, ()))
    if what == "opened" and personal_data:
        heard.append("legal")
    if what in ENDS:
        heard += sorted(told_before - set(heard))
    return tuple(heard)


def war_rooms(plan: Plan) -> tuple[str, ...]:
    """Where those who work on it meet: "Zoom meeting: https://..."."""
    return tuple(f"{channel.says}: {channel.address}" for channel in _places(plan, "war-room"))


def dashboards(plan: Plan) -> tuple[str, ...]:
    """The addresses of the dashboard, without a slash at the end, in the plan's order."""
    return tuple(str(channel.address).rstrip("/") for channel in _places(plan, "dashboard"))


def _places(plan: Plan, kind: str) -> Iterator[Channel]:
    for _, channels in plan.communication.sides():
        yield from (it for it in channels.values() if it.kind == kind and it.address)
