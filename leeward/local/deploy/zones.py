"""Names in Route 53: record sets and health checks as a template describes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chalicelib.errors import BadInput
from leeward.local.deploy.made import Made, Properties, only

if TYPE_CHECKING:
    from leeward.local.deploy.stack import Stack


def make_health_check(stack: Stack, logical: str, properties: Properties) -> Made:
    only(properties, "HealthCheckConfig", "HealthCheckTags")
    client = stack.client("route53")
    made = client.create_health_check(
        CallerReference=f"{stack.name}-{logical}", HealthCheckConfig=properties["HealthCheckConfig"]
    )
    identity = made["HealthCheck"]["Id"]
    client.change_tags_for_resource(
        ResourceType="healthcheck", ResourceId=identity, AddTags=properties["HealthCheckTags"]
    )
    return Made(identity, {"HealthCheckId": identity})


def make_record_set(stack: Stack, logical: str, properties: Properties) -> Made:
    rest = dict(properties)
    client = stack.client("route53")
    zone = rest.pop("HostedZoneId", None) or _zone_named(client, rest.pop("HostedZoneName"))
    rest["TTL"] = int(rest["TTL"])
    rest["ResourceRecords"] = [{"Value": value} for value in rest["ResourceRecords"]]
    changes = [{"Action": "CREATE", "ResourceRecordSet": rest}]
    client.change_resource_record_sets(HostedZoneId=zone, ChangeBatch={"Changes": changes})
    return Made(rest["Name"])


def _zone_named(client: Any, name: str) -> str:
    zones = client.list_hosted_zones_by_name(DNSName=name)["HostedZones"]
    found = [it["Id"].rpartition("/")[2] for it in zones if it["Name"] == name]
    if len(found) != 1:
        raise BadInput(
            f"expected one hosted zone {name}, found {len(found)}",
            hint="create it before the record sets; it is the owner's, not the stack's",
            code="no-hosted-zone",
        )
    return str(found[0])
