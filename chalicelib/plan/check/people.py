"""Rules on people: who acts, how they are reached, who hears of what."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta

from chalicelib.plan.check.finding import Path
from chalicelib.plan.check.rule import Hits, Rule
from chalicelib.plan.model import Plan
from chalicelib.plan.units import format_duration as show

_PLACEHOLDER = re.compile(r"x{3,}|\bTBD\b|\bTODO\b|\?{3,}|<[a-z ]+>|\[[a-z _-]+\]", re.IGNORECASE)


def find_role_without_person(plan: Plan, now: datetime) -> Hits:
    for name, role in plan.roles.items():
        needed = [scenario for scenario, roles in _roles_needed(plan) if name in roles]
        if needed and not role.held_by:
            yield (
                ("roles", name),
                f"{role.title} is needed in {', '.join(needed)}, and nobody holds that role",
            )


def _roles_needed(plan: Plan) -> Iterator[tuple[str, set[str]]]:
    for name, scenario in plan.scenarios.items():
        steps = list(scenario.all_steps())
        acting = {step.by for step in steps if step.by}
        approving = {role for step in steps if step.approve for role in step.approve.by}
        yield name, acting | approving


def find_role_of_one(plan: Plan, now: datetime) -> Hits:
    for name, role in plan.roles.items():
        if len(role.held_by) != 1 or role.covered_by is not None:
            continue
        holder = plan.contacts[role.held_by[0]]
        if not holder.team:
            yield (
                ("roles", name),
                f"one person alone holds the role {role.title} ({holder.title}), and nobody covers "
                "for them",
            )


def find_nobody_declares(plan: Plan, now: datetime) -> Hits:
    if not any("declare" in role.may for role in plan.roles.values()):
        yield ("roles",), "no role may declare a disaster, so nobody starts the plan"


def find_placeholder(plan: Plan, now: datetime) -> Hits:
    for path, who, address in _addresses(plan):
        if _PLACEHOLDER.search(address):
            yield path, f"{who} has the placeholder {address!r}: nobody can be reached by it"


def _addresses(plan: Plan) -> Iterator[tuple[Path, str, str]]:
    for name, contact in plan.contacts.items():
        for kind, address in contact.reach.items():
            yield ("contacts", name, "reach", kind), contact.title, address
    for side, channels in plan.communication.sides():
        for name, channel in channels.items():
            if channel.address:
                yield ("communication", side, name, "address"), channel.says, channel.address


def find_unreachable(plan: Plan, now: datetime) -> Hits:
    for name, contact in plan.contacts.items():
        if not contact.reach:
            yield ("contacts", name), f"nothing says how {contact.title} is reached"


def find_one_way_to_reach(plan: Plan, now: datetime) -> Hits:
    for name, contact in plan.contacts.items():
        if len(contact.reach) == 1 and not contact.external:
            only = next(iter(contact.reach))
            yield ("contacts", name), f"{contact.title} can be reached by {only} alone"


def find_escalation_gaps(plan: Plan, now: datetime) -> Hits:
    timed = [
        (number, step) for number, step in enumerate(plan.escalation) if step.after is not None
    ]
    reached = timedelta(0)
    for number, step in timed:
        assert step.after is not None
        if step.after != reached:
            what = "nobody is called" if step.after > reached else "two are called at once"
            yield (
                ("escalation", number),
                f"from {show(min(step.after, reached))} to {show(max(step.after, reached))} {what}",
            )
        reached = step.until or step.after
    for number, step in timed[:-1]:
        if step.until is None:
            yield ("escalation", number), f"the call to {step.who} has no end, yet another follows"


def find_escalation_to_nobody(plan: Plan, now: datetime) -> Hits:
    for number, step in enumerate(plan.escalation):
        if step.contact is None:
            yield ("escalation", number), f"{step.who} is to be called, and no contact says how"


def find_no_escalation(plan: Plan, now: datetime) -> Hits:
    if not plan.escalation:
        yield (), "nothing says who is called when the first one does not answer, and when"


def find_status_page_in_lost_site(plan: Plan, now: datetime) -> Hits:
    for path, channel_name, sites in _status_pages(plan):
        for scenario in plan.scenarios.values():
            for site in sorted(set(scenario.loses) & set(sites)):
                yield (
                    path,
                    f"{channel_name} is hosted in {site}, which {scenario.title} loses: customers "
                    "are told nothing when it matters most",
                )


def find_status_page_anywhere(plan: Plan, now: datetime) -> Hits:
    told = set()
    for path, channel_name, sites in _status_pages(plan):
        if not sites and channel_name not in told:
            told.add(channel_name)
            yield path, f"nothing says where {channel_name} is hosted"


def _status_pages(plan: Plan) -> Iterator[tuple[Path, str, tuple[str, ...]]]:
    for side, channels in plan.communication.sides():
        for name, channel in channels.items():
            if channel.kind == "status-page":
                what = channel.address or channel.says
                yield ("communication", side, name), what, channel.hosted_in


def find_unseen_service(plan: Plan, now: datetime) -> Hits:
    for name, service in plan.status_page.services.items():
        asked = [it for it in service.of if getattr(plan.components.get(it), "health", None)]
        if not asked:
            yield (
                ("status_page", "services", name),
                f"nothing that {service.title} is made of has a health address: the page never "
                "knows whether it works",
            )


def find_one_internal_channel(plan: Plan, now: datetime) -> Hits:
    live = [
        name
        for name, channel in plan.communication.internal.items()
        if channel.kind != "status-page"
    ]
    if len(live) < 2:
        told = f"{live[0]} alone" if live else "no channel at all"
        yield ("communication", "internal"), f"those who work on an incident have {told}"


def find_alarm_to_nobody(plan: Plan, now: datetime) -> Hits:
    for number, threshold in enumerate(plan.thresholds):
        if not threshold.notify:
            yield (
                ("thresholds", number),
                f"nothing says who hears of it: {threshold.metric}, {threshold.level}",
            )


RULES = (
    Rule(
        "LW049",
        "error",
        "A role that nobody holds",
        "name the contacts who hold it under `held_by`",
        find_role_without_person,
    ),
    Rule(
        "LW050",
        "warning",
        "A role that hangs on one person",
        "name a second holder, or a role that covers (`covered_by`)",
        find_role_of_one,
    ),
    Rule(
        "LW051",
        "error",
        "Nobody may declare a disaster",
        "give a role `may: [declare]`",
        find_nobody_declares,
    ),
    Rule(
        "LW052",
        "error",
        "A placeholder instead of an address",
        "write the real number or address",
        find_placeholder,
    ),
    Rule(
        "LW053",
        "error",
        "A contact that cannot be reached",
        "state `reach`, with a way that works at night",
        find_unreachable,
    ),
    Rule(
        "LW054",
        "warning",
        "A contact with one way to be reached",
        "add a second way that does not need the same network",
        find_one_way_to_reach,
    ),
    Rule(
        "LW055",
        "error",
        "The escalation has a gap or an overlap",
        "let each step begin when the one before ends, the first at 0m",
        find_escalation_gaps,
    ),
    Rule(
        "LW056",
        "warning",
        "An escalation to somebody without a contact",
        "name the contact of the step",
        find_escalation_to_nobody,
    ),
    Rule(
        "LW057",
        "warning",
        "No escalation",
        "write `escalation`: who is called, after how long, until when",
        find_no_escalation,
    ),
    Rule(
        "LW058",
        "error",
        "The status page is lost with the site",
        "host it with another provider, or in the standby site",
        find_status_page_in_lost_site,
    ),
    Rule(
        "LW059",
        "note",
        "Nobody knows where the status page is",
        "state `hosted_in`, or move it to a provider outside the sites and say so",
        find_status_page_anywhere,
    ),
    Rule(
        "LW060",
        "warning",
        "One channel for those who work on it",
        "name a second internal channel of another kind",
        find_one_internal_channel,
    ),
    Rule(
        "LW061",
        "warning",
        "An alarm that nobody hears",
        "name contacts, roles or channels under `notify`",
        find_alarm_to_nobody,
    ),
    Rule(
        "LW086",
        "warning",
        "A public service that nobody looks at",
        "name a component with a `health` address among those it is made `of`",
        find_unseen_service,
    ),
)
