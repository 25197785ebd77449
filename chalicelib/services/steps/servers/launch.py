"""The steps that make a server: launch it, and put its network right.

What a run does to a server is kept in its state, `server#<component>`, before it is done: which one
was launched, which one it replaces, and how that one stood.
"""

from __future__ import annotations

from typing import Any

from chalicelib.adapters.servers.ec2 import Ec2Servers, LoadBalancerTargets
from chalicelib.adapters.servers.ssm import SsmCommands
from chalicelib.errors import BadInput, CheckFailed, NotReady, Refused
from chalicelib.evidence.entries import decision
from chalicelib.incidents.fence import acquire_fence
from chalicelib.incidents.run import Run
from chalicelib.plan.components import Server
from chalicelib.plan.records import format_time
from chalicelib.ports.servers import ServerFacts
from chalicelib.recover.sites.host_scripts import tell_settings
from chalicelib.recover.sites.servers import (
    decide_groups,
    launch_token,
    one_of_name,
    require_launched_by,
    split_template,
    tags_of,
    wait_until_online,
)
from chalicelib.services import build
from chalicelib.services.steps.acting import acting_on
from chalicelib.services.steps.said import say

Outputs = dict[str, Any]

# Of the step's 600 s; a server of a common size boots in about 60 s.
BOOT_SECONDS = 480.0
SETTINGS_SECONDS = 30.0
HEALTHY_SECONDS = 540.0
STOP_SECONDS = 240.0
TEST_SECONDS = 240.0
PAGE_SECONDS = 5.0
# Answers in a row: one may be the last of a process that is ending.
GOOD_ANSWERS = 3
COMMAND_SECONDS = 840.0
TAIL_CHARACTERS = 2000


def server_of(name: str) -> Server:
    """Raises BadInput (code "unknown-component")."""
    found = build.plan().components.get(name)
    if not isinstance(found, Server):
        names = [key for key, it in build.plan().components.items() if it.kind == "server"]
        raise BadInput(
            f"the plan has no server {name!r}",
            hint=f"one of: {', '.join(names) or 'none'}",
            code="unknown-component",
        )
    return found


def ec2_of(found: Server) -> Ec2Servers:
    return Ec2Servers(build.client("ec2", found.region or ""))


def commands_of(found: Server) -> SsmCommands:
    return SsmCommands(build.client("ssm", found.region or ""))


def targets_of(found: Server) -> LoadBalancerTargets:
    return LoadBalancerTargets(build.client("elbv2", found.region or ""))


def facts_of(run: Run, name: str, instance: str = "") -> ServerFacts:
    """The named instance, which the run must have launched; without one that of the run, or the
    server that has the plan's name.

    Raises NotReady (code "server-not-found", "server-ambiguous"), Refused ("not-of-this-run").
    """
    found = server_of(name)
    servers = ec2_of(found)
    if instance:
        facts = servers.facts(instance)
        require_launched_by(facts, run.run_id)
        return facts
    if launched := kept_order(run, name).get("instance"):
        return servers.facts(launched)
    return named_server(name)


def named_server(name: str) -> ServerFacts:
    """The server that has the plan's name. Raises as `facts_of`."""
    found = server_of(name)
    facts = one_of_name(ec2_of(found).find(found.instance), found.instance)
    if facts is None:
        raise NotReady(
            f"expected a server of the name {found.instance}, found none",
            code="server-not-found",
            hint="is the plan's `instance` the value of its tag Name, in the plan's region?",
        )
    return facts


def provision_step(run: Run, inputs: dict[str, Any]) -> Outputs:
    """Launch once, however often it is tried, and wait until the server takes commands.

    Raises Fenced while another run puts a server in the place of the same one.
    """
    name = acting_on(run, inputs["component"])
    found = server_of(name)
    acquire_fence(build.state(), name, run.run_id, clock=build.clock())
    servers = ec2_of(found)
    order = _order(run, name, found, servers)
    launched = servers.launch(
        order["template"],
        order["version"],
        token=launch_token(run.run_id, run.step),
        tags=tags_of(found.instance, name, run.run_id),
    )
    keep_order(run, name, order | {"instance": launched.id})
    what = f"launch {launched.id} from {order['template']} version {order['version']}"
    why = f"it replaces {order['replaces'] or 'nothing'}; to undo: terminate {launched.id}"
    say(run, decision(what=what, why=why))
    facts = wait_until_online(
        servers, commands_of(found), launched.id, clock=build.clock(), limit_seconds=BOOT_SECONDS
    )
    _write_settings(run, name, found, facts.id)
    waited = (build.clock().now() - facts.launched_at).total_seconds()
    return {
        "found": f"{facts.id} at {facts.address} takes commands, {waited:.0f} s after its launch; "
        f"it replaces {order['replaces'] or 'nothing'}",
        "instance": facts.id,
        "address": facts.address,
        "version": order["version"],
        "replaces": order["replaces"],
        "launched_at": format_time(facts.launched_at),
    }


def _write_settings(run: Run, name: str, found: Server, instance: str) -> None:
    """What the server's units are told before anything starts them: a stand-in must not be led by
    restored settings to what it stands in for."""
    if not found.settings:
        return
    services = [it for it in build.plan().components.values() if it.kind == "service"]
    units = [unit for it in services if it.on == name for unit in it.units]
    script = tell_settings(found.settings, units)
    ran = commands_of(found).run(
        instance, script, name=f"{run.run_id}/{run.step}", limit_seconds=SETTINGS_SECONDS
    )
    if ran.status:
        raise CheckFailed(
            f"expected the settings of {name} on {instance}, found status {ran.status}: "
            f"{ran.errors.strip()[-200:]}",
            code="settings-not-written",
            hint="nothing was started; does the image have systemd?",
        )
    what = f"units {', '.join(units)} are told {', '.join(sorted(found.settings))}"
    say(run, decision(what=what, why="the plan's settings of the server win"), about="settings")


def undo_provision(run: Run, inputs: dict[str, Any]) -> Outputs:
    """Terminate the server that the run launched, and no other."""
    name = acting_on(run, inputs["component"])
    instance = kept_order(run, name).get("instance")
    servers = ec2_of(server_of(name))
    if not instance:
        instance = _launched_unseen(run, name, servers)
    if not instance:
        return {"found": "nothing was launched"}
    try:
        require_launched_by(servers.facts(instance), run.run_id)
    except NotReady:
        return {"found": f"{instance} is gone"}
    servers.terminate(instance)
    return {"found": f"{instance} is terminated"}


def _launched_unseen(run: Run, name: str, servers: Ec2Servers) -> str:
    """What a worker launched that died before it could write it down."""
    own = tags_of(server_of(name).instance, name, run.run_id)["Name"]
    found = servers.find(own)
    return found[-1].id if found else ""


def _order(run: Run, name: str, found: Server, servers: Ec2Servers) -> dict[str, Any]:
    """What is launched and what it replaces: decided once a run, before anything is launched."""
    if kept := kept_order(run, name):
        return kept
    if found.launch_template is None:
        raise NotReady(
            f"expected a launch template for {name}, found none in the plan",
            code="no-launch-template",
            hint="add `launch_template` to the server",
        )
    template, version = split_template(found.launch_template)
    old = one_of_name(servers.find(found.instance), found.instance)
    order = {
        "template": template,
        "version": version or servers.current_version(template),
        "replaces": old.id if old else "",
    }
    build.state().create(partition_of(run), _sort(name), order)
    return kept_order(run, name)


def secure_step(run: Run, inputs: dict[str, Any]) -> Outputs:
    """Make the security groups what the plan says, and look at them again."""
    name = acting_on(run, inputs["component"])
    found = server_of(name)
    servers = ec2_of(found)
    facts = facts_of(run, name, str(inputs.get("instance") or ""))
    decided = decide_groups(facts, found.security_groups)
    if decided.change:
        before = f"it had {', '.join(facts.groups) or 'none'}"
        say(
            run,
            decision(what=f"change the groups of {facts.id}", why=f"{decided.reason}; {before}"),
        )
        servers.set_groups(facts.id, decided.groups)
        left = decide_groups(servers.facts(facts.id), found.security_groups)
        if left.change:
            raise CheckFailed(
                f"expected {facts.id} to have the plan's security groups, {left.reason}",
                code="groups-differ",
                hint="somebody else changes them, or the plan names one of another network",
            )
    return {
        "found": f"{facts.id}: {decided.reason}" + ("; put right" if decided.change else ""),
        "instance": facts.id,
        "groups": list(decided.groups),
        "changed": decided.change,
    }


def kept_order(run: Run, name: str) -> dict[str, Any]:
    kept = build.state().get(partition_of(run), _sort(name)) or {}
    return {key: value for key, value in kept.items() if key != "sort"}


def keep_order(run: Run, name: str, item: dict[str, Any]) -> None:
    if not build.state().replace(partition_of(run), _sort(name), item, expected={}):
        raise Refused(
            f"expected the run's order for {name} in its state, found none",
            hint="start the run again",
            code="order-lost",
        )


def partition_of(run: Run) -> str:
    return f"run#{run.run_id}"


def _sort(name: str) -> str:
    return f"server#{name}"
