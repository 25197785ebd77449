"""Replacing a server: which one it is, what its network must be, and when the new one serves.

The server that has the plan's name is the one that counts. A new one is launched under a name of
its run, and gets the plan's name when it serves; the old one then has a name that says so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from chalicelib.errors import CheckFailed, NotReady, Refused, Unavailable
from chalicelib.plan.records import Record
from chalicelib.ports import Clock
from chalicelib.ports.servers import Commands, ServerFacts, Servers, Targets

Found = TypeVar("Found")

RUN_TAG, COMPONENT_TAG = "leeward:run", "leeward:component"
POLL_SECONDS = 1.0
# EC2 takes tokens of at most 64 characters.
TOKEN_CHARACTERS = 64
LONGEST_TAG = 255


@dataclass(frozen=True)
class GroupsDecision(Record):
    """Whether a server's security groups are what the plan says. `groups`: what they are to be."""

    change: bool
    groups: tuple[str, ...]
    reason: str


def one_of_name(found: Iterable[ServerFacts], name: str) -> ServerFacts | None:
    """The server of the plan's name; None when there is none.

    Pure. Raises NotReady (code "server-ambiguous") when more than one runs.
    """
    all_found = list(found)
    running = [it for it in all_found if it.state in ("pending", "running")]
    if len(running) > 1:
        raise NotReady(
            f"expected one server of the name {name}, found {len(running)}: "
            + ", ".join(it.id for it in running),
            code="server-ambiguous",
            hint="give those that are not meant another value of the tag Name",
        )
    chosen = running or all_found[-1:]
    return chosen[0] if chosen else None


def decide_groups(facts: ServerFacts, wanted: tuple[str, ...]) -> GroupsDecision:
    """Compare what a server has with the plan. Pure.

    Raises NotReady (code "no-security-groups") when the plan names none: nothing can be compared.
    """
    if not wanted:
        raise NotReady(
            f"expected the plan to name security groups for {facts.name or facts.id}, found none",
            code="no-security-groups",
            hint="add `security_groups` to the server",
        )
    target = tuple(sorted(set(wanted)))
    missing = [group for group in target if group not in facts.groups]
    extra = [group for group in facts.groups if group not in target]
    if not missing and not extra:
        return GroupsDecision(False, target, f"it has {', '.join(target)}, as the plan says")
    parts = [f"lacks {', '.join(missing)}"] * bool(missing)
    parts += [f"has {', '.join(extra)}, which the plan does not name"] * bool(extra)
    return GroupsDecision(True, target, "it " + " and ".join(parts))


def require_launched_by(facts: ServerFacts, run_id: str) -> None:
    """Raises Refused (code "not-of-this-run"): data goes to the run's own new server alone."""
    if facts.tags.get(RUN_TAG) != run_id:
        raise Refused(
            f"expected a server that {run_id} launched, {facts.id} ({facts.name}) is another's",
            code="not-of-this-run",
            hint="take the step's `instance` from the step that provisions",
            server=facts.id,
        )


def launch_token(run_id: str, step: str) -> str:
    """The same for each attempt at the step, so that a repeated launch gives the same server."""
    return hashlib.sha256(f"{run_id}/{step}".encode()).hexdigest()[:TOKEN_CHARACTERS]


def tags_of(name: str, component: str, run_id: str) -> dict[str, str]:
    """Tags of a server that is being made."""
    return {
        "Name": f"{name} of {run_id}"[:LONGEST_TAG],
        RUN_TAG: run_id,
        COMPONENT_TAG: component,
    }


def name_replaced(name: str, run_id: str) -> str:
    """What a server is called after it was replaced."""
    return f"{name} until {run_id}"[:LONGEST_TAG]


def split_template(template: str) -> tuple[str, int | None]:
    """ "web:7" -> ("web", 7); "web" -> ("web", None), whose version is found at the launch."""
    name, _, version = template.rpartition(":")
    return (name, int(version)) if name and version.isdecimal() else (template, None)


def wait_until_online(
    servers: Servers, commands: Commands, server: str, *, clock: Clock, limit_seconds: float
) -> ServerFacts:
    """Wait until it runs and takes commands.

    Raises:
        Unavailable: code "server-not-online"; the same server is waited for again.
        CheckFailed: code "server-ended", when it stopped or is gone.
    """

    def look() -> ServerFacts | None:
        try:
            facts = servers.facts(server)
        except NotReady:
            return None  # EC2 may not know for some seconds what it has just launched
        if facts.state not in ("pending", "running"):
            raise CheckFailed(
                f"expected {server} to boot, found it {facts.state}",
                code="server-ended",
                hint="read the instance's state reason; the template may be at fault",
            )
        return facts if facts.state == "running" and commands.is_online(server) else None

    found = wait_for(look, clock=clock, limit_seconds=limit_seconds)
    if found is None:
        raise Unavailable(
            f"expected {server} to be online within {limit_seconds:.0f} s, it is not",
            code="server-not-online",
            hint="does its image have an SSM agent, and its profile the right to connect?",
        )
    return found


def wait_until_healthy(
    targets: Targets, group: str, server: str, *, clock: Clock, limit_seconds: float
) -> datetime:
    """When the load balancer found it healthy. Raises CheckFailed (code "target-unhealthy")."""
    last = "unknown"

    def look() -> datetime | None:
        nonlocal last
        last = targets.health(group).get(server, "unused")
        return clock.now() if last == "healthy" else None

    found = wait_for(look, clock=clock, limit_seconds=limit_seconds)
    if found is None:
        raise CheckFailed(
            f"expected {server} to be healthy in its target group within {limit_seconds:.0f} s, "
            f"it is {last}",
            code="target-unhealthy",
            hint="does the health check's path answer, and do the groups let the balancer in?",
        )
    return found


def wait_for(
    look: Callable[[], Found | None], *, clock: Clock, limit_seconds: float
) -> Found | None:
    """What `look` finds, asked once a second; None when it found nothing in time."""
    started = clock.now()
    while (found := look()) is None:
        if (clock.now() - started).total_seconds() > limit_seconds:
            return None
        clock.sleep(POLL_SECONDS)
    return found
