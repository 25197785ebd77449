"""What the policies of functions that act on servers need to know of a plan.

A server is known by its tag `Name`: the plan's, or one that a run gave (recover/sites/servers.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from chalicelib.plan.components import Server
from chalicelib.plan.model import Plan
from chalicelib.recover.sites.servers import name_replaced, tags_of

# IAM takes no empty list: where there is none stands a name that nothing has.
NOTHING = "leeward-nothing"
NO_GROUP = "arn:aws:elasticloadbalancing:*:*:targetgroup/leeward-nothing/0000000000000000"


def server_parameters(plan: Plan) -> dict[str, Any]:
    """Names, regions and target groups of the plan's servers, stand-ins too.

    Where a server names no region and no site is in AWS, nothing is known of where it is.
    """
    servers = [it for it in plan.components.values() if isinstance(it, Server)]
    names = {it.instance for it in servers} or {NOTHING}
    regions = _regions(plan, servers) or {"*"}
    launched = {tags_of(name, "", "*")["Name"] for name in names}
    replaced = {name_replaced(name, "*") for name in names}
    groups = {it.target_group for it in servers if it.target_group}
    return {
        "ServerNames": _list(names | launched | replaced),
        "LaunchedServerNames": _list(launched),
        "ServerRegions": _list(regions),
        # For SSM, which asks not to use conditions on the region.
        "ServerInstances": _list(f"arn:aws:ec2:{it}:*:instance/*" for it in regions),
        "ServerTargetGroups": _list(groups or {NO_GROUP}),
    }


def _regions(plan: Plan, servers: Iterable[Server]) -> set[str]:
    named = {site.region for site in plan.sites.values() if site.provider == "aws"}
    return {it for it in (*named, *(it.region for it in servers)) if it}


def _list(values: Iterable[str]) -> dict[str, str]:
    return {"Type": "CommaDelimitedList", "Default": ",".join(sorted(values))}
