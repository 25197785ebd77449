"""The steps that put a new server in the place of the old: isolate the one, send traffic to the
other. What the old one was like is kept before anything of it is changed."""

from __future__ import annotations

from typing import Any

from chalicelib.adapters.servers.ec2 import Ec2Servers
from chalicelib.errors import CheckFailed, NotReady
from chalicelib.evidence.entries import Entry, decision, serving
from chalicelib.incidents.run import Run
from chalicelib.plan.components import Server
from chalicelib.plan.records import format_time
from chalicelib.ports.servers import ServerFacts
from chalicelib.recover.sites.servers import (
    name_replaced,
    require_launched_by,
    tags_of,
    wait_for,
    wait_until_healthy,
)
from chalicelib.services import build
from chalicelib.services.steps.acting import acting_on
from chalicelib.services.steps.said import say
from chalicelib.services.steps.servers.launch import (
    ec2_of,
    facts_of,
    kept_order,
    partition_of,
    server_of,
    targets_of,
)

Outputs = dict[str, Any]

# Of the steps' 600 s and 300 s.
HEALTHY_SECONDS = 540.0
STOP_SECONDS = 240.0


def isolate_step(run: Run, inputs: dict[str, Any]) -> Outputs:
    """Out of the load balancer, into the quarantine group, stopped: kept, and cannot come back by
    itself. Connections that are open outlive a change of groups, so it is stopped as well."""
    name = acting_on(run, inputs["component"])
    found, servers = server_of(name), ec2_of(server_of(name))
    old = kept_order(run, name).get("replaces", "")
    if not old:
        return {"found": "there is no server to isolate", "instance": "", "stopped": False}
    try:
        facts = servers.facts(old)
    except NotReady:
        return {"found": f"{old} is gone: nothing to isolate", "instance": old, "stopped": False}
    before = _before_isolation(run, name, found, facts)
    say(run, Entry("server-isolated", before | {"undo": _tell_undo(before)}))
    if found.target_group:
        targets_of(found).deregister(found.target_group, old)
    if found.quarantine_group:
        servers.set_groups(old, (found.quarantine_group,))
    servers.stop(old)
    _wait_stopped(servers, old)
    return {
        "found": f"{old} is stopped and kept, out of the load balancer"
        + (f", in {found.quarantine_group}" if found.quarantine_group else "")
        + f"; to undo: {_tell_undo(before)}",
        "instance": old,
        "stopped": True,
    }


def undo_isolate(run: Run, inputs: dict[str, Any]) -> Outputs:
    """Groups, state and registration as they were."""
    name = acting_on(run, inputs["component"])
    found, servers = server_of(name), ec2_of(server_of(name))
    before = build.state().get(partition_of(run), f"isolated#{name}")
    if before is None:
        return {"found": "nothing was isolated"}
    old = before["instance"]
    servers.set_groups(old, tuple(before["groups"]))
    if before["state"] == "running":
        _start_again(servers, old)
    if found.target_group and before["registered"]:
        targets_of(found).register(found.target_group, old)
    return {"found": f"{old} is {before['state']} again, with its groups"}


def _start_again(servers: Ec2Servers, server: str) -> None:
    """A dead attempt may have started it already; the step may have died before it stopped it."""
    if servers.facts(server).state == "stopping":
        _wait_stopped(servers, server)
    if servers.facts(server).state == "stopped":
        servers.start(server)


def _before_isolation(run: Run, name: str, found: Server, facts: ServerFacts) -> dict[str, Any]:
    registered = bool(
        found.target_group and facts.id in targets_of(found).health(found.target_group)
    )
    item = {
        "instance": facts.id,
        "groups": list(facts.groups),
        "state": facts.state,
        "registered": registered,
    }
    build.state().create(partition_of(run), f"isolated#{name}", item)
    kept = build.state().get(partition_of(run), f"isolated#{name}")
    assert kept is not None
    return {key: value for key, value in kept.items() if key != "sort"}


def _tell_undo(before: dict[str, Any]) -> str:
    instance, groups = before["instance"], " ".join(before["groups"])
    start = f"; aws ec2 start-instances --instance-ids {instance}"
    return (
        f"aws ec2 modify-instance-attribute --instance-id {instance} --groups {groups}"
        + (start if before["state"] == "running" else "")
        + ("; register it in its target group" if before["registered"] else "")
    )


def _wait_stopped(servers: Ec2Servers, server: str) -> None:
    def look() -> bool | None:
        return servers.facts(server).state == "stopped" or None

    if wait_for(look, clock=build.clock(), limit_seconds=STOP_SECONDS) is None:
        raise CheckFailed(
            f"expected {server} to stop within {STOP_SECONDS:.0f} s, it has not",
            code="server-not-stopped",
            hint="stop it with --force; it is out of the load balancer and the network",
        )


def register_step(run: Run, inputs: dict[str, Any]) -> Outputs:
    """Register, see it healthy, then exchange the names: from then on it is the plan's server."""
    name = acting_on(run, inputs["component"])
    found, servers = server_of(name), ec2_of(server_of(name))
    facts = facts_of(run, name, inputs["instance"])
    healthy_at = ""
    if found.target_group:
        targets = targets_of(found)
        targets.register(found.target_group, facts.id)
        at = wait_until_healthy(
            targets, found.target_group, facts.id,
            clock=build.clock(), limit_seconds=HEALTHY_SECONDS,
        )  # fmt: skip
        healthy_at = format_time(at)
        say(run, serving(at=at, how=f"{facts.id} is healthy in {found.target_group}"))
    old = kept_order(run, name).get("replaces", "")
    if old:
        servers.set_tags(old, {"Name": name_replaced(found.instance, run.run_id)})
    servers.set_tags(facts.id, {"Name": found.instance})
    where = "in its target group" if found.target_group else "with no load balancer in the plan"
    say(run, decision(what=f"{facts.id} is {found.instance} now, {where}", why=_tell_names(old)))
    return {
        "found": f"{facts.id} is {found.instance} now, "
        + (f"healthy {where}" if found.target_group else where),
        "instance": facts.id,
        "healthy_at": healthy_at,
    }


def _tell_names(old: str) -> str:
    if not old:
        return "no server had the name; to undo: take the tag Name away"
    return f"it replaces {old}; to undo: exchange their tags Name, and their registration"


def undo_register(run: Run, inputs: dict[str, Any]) -> Outputs:
    """The old server has its name again, and the new one none of its traffic."""
    name = acting_on(run, inputs["component"])
    found, servers = server_of(name), ec2_of(server_of(name))
    kept = kept_order(run, name)
    new, old = kept.get("instance", ""), kept.get("replaces", "")
    if not new:
        return {"found": "no server was registered"}
    require_launched_by(servers.facts(new), run.run_id)
    servers.set_tags(new, {"Name": tags_of(found.instance, name, run.run_id)["Name"]})
    if old:
        servers.set_tags(old, {"Name": found.instance})
    if found.target_group:
        targets_of(found).deregister(found.target_group, new)
    return {"found": f"{old or 'no server'} is {found.instance} again"}
