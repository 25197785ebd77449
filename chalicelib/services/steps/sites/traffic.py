"""Builds what moves a component's names, from the plan and the environment."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from chalicelib.errors import NotReady
from chalicelib.plan.components import Names
from chalicelib.ports import ObjectStore
from chalicelib.ports.traffic import Resolver, Traffic
from chalicelib.services import build, environment

if TYPE_CHECKING:
    from chalicelib.adapters.traffic.switch_history import StoredSwitches
    from chalicelib.plan.model import Plan


def driver_of(component: str) -> Traffic:
    """Raises NotReady (code "names-not-driven") when the plan says too little to move them."""
    found = build.plan().components[component]
    assert isinstance(found, Names)
    if found.failover == "health-check":
        return _switch_object(component)
    if found.failover == "routing-control":
        return _routing_controls(component, found)
    if found.failover == "load-balancer":
        return _load_balancer(component, found)
    return _record_changes(component, found)


def _switch_object(component: str) -> Traffic:
    from chalicelib.adapters.traffic.switch_object import SwitchObject

    home = home_of(component)
    return SwitchObject(switch_store(), component, home=home, away=away_from(build.plan(), home))


def _routing_controls(component: str, found: Names) -> Traffic:
    from chalicelib.adapters.traffic.routing_control import RoutingControls, connect_endpoint

    if not (found.routing_controls and found.routing_endpoints):
        raise _too_little(component, "`routing_controls` and `routing_endpoints`")
    return RoutingControls(found.routing_controls, found.routing_endpoints, connect_endpoint)


def _load_balancer(component: str, found: Names) -> Traffic:
    from chalicelib.adapters.traffic.load_balancer import LoadBalancerTargets, connect_elb

    if not (found.target_group and found.targets):
        raise _too_little(component, "`target_group` and `targets`")
    client = connect_elb(found.target_group)
    return LoadBalancerTargets(client, found.target_group, found.targets, clock=build.clock())


def _record_changes(component: str, found: Names) -> Traffic:
    from chalicelib.adapters.traffic.record_change import RecordChanges

    if found.provider != "route53" or not found.hosted_zone:
        raise _too_little(component, "the provider route53 and `hosted_zone`")
    return RecordChanges(
        build.client("route53"), found.hosted_zone, found.records, clock=build.clock()
    )


def _too_little(component: str, what: str) -> NotReady:
    return NotReady(
        f"expected {what} of {component} in the plan, found less",
        hint="write them down, or let a person move these names",
        code="names-not-driven",
    )


def home_of(component: str) -> str:
    """The site that the names belong to: their own, else the plan's primary one."""
    own = build.plan().components[component].site
    sites = build.plan().sites
    return own or next((name for name, it in sites.items() if it.role == "primary"), "")


def away_from(plan: Plan, home: str) -> str:
    """The site that takes over from `home`: the first other one; "" when there is none."""
    return next((name for name in plan.sites if name != home), "")


def switches_of(component: str) -> StoredSwitches:
    from chalicelib.adapters.traffic.switch_history import StoredSwitches

    return StoredSwitches(switch_store(), component)


@cache
def switch_store() -> ObjectStore:
    """The switch bucket, in its own region whichever this is.

    Encrypted by S3's own key: a health checker has no right to use any other.
    Raises NotReady (code "not-deployed").
    """
    from chalicelib.adapters.s3.access import reach_s3
    from chalicelib.adapters.s3.store import S3ObjectStore

    bucket, region = environment.switch_bucket()
    return S3ObjectStore(reach_s3(region), bucket)


@cache
def resolver() -> Resolver:
    from chalicelib.adapters.traffic.dns_client import NameServers

    return NameServers(environment.dns_server())
