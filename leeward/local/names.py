"""The hosted zones that are the plan's owner's, and the stack of its names in them.

In AWS the zones are there and the stack is deployed when the health checks have data; here both are
made together, and the names answer for their home within a second.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leeward.local.deploy import Stack

if TYPE_CHECKING:
    from leeward.local.cloud import LocalCloud


def deploy_names(
    cloud: LocalCloud, template: Path, region: str, outputs: Mapping[str, str]
) -> None:
    """Make the zones that the template names, and its record sets.

    Args:
        outputs: of the stack with the health checks.
    """
    body = json.loads(template.read_text())
    create_zones(cloud.outside("route53"), zones_in(body))
    Stack(cloud, body, region, dict(outputs)).apply()


def make_switches(stack: Stack) -> dict[str, str]:
    """Of a standby stack the switch bucket, its policy and the health checks: the checks' ids."""
    stack.make("SwitchBucket")
    stack.make("SwitchBucketPolicy")
    checks = stack.logicals("AWS::Route53::HealthCheck")
    return {logical: stack.make(logical).ref for logical in checks}


def zones_in(template: Mapping[str, Any]) -> list[str]:
    """Names of the hosted zones that the record sets lie in."""
    sets = (it["Properties"] for it in template["Resources"].values())
    return sorted({it["HostedZoneName"] for it in sets if "HostedZoneName" in it})


def create_zones(client: Any, names: Iterable[str]) -> None:
    """A zone that exists is left as it is."""
    there = {it["Name"] for it in client.list_hosted_zones()["HostedZones"]}
    for name in names:
        if name not in there:
            client.create_hosted_zone(Name=name, CallerReference=name)
