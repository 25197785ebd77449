"""EC2 instances, and the target groups of a load balancer in front of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from botocore.exceptions import ClientError

from chalicelib.adapters.aws_errors import error_code, mapped
from chalicelib.errors import NotReady
from chalicelib.ports.servers import ServerFacts

ALIVE = ("pending", "running", "stopping", "stopped")
UNKNOWN = ("InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed")


class Ec2Servers:
    """Implements Servers with an EC2 client."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def find(self, name: str) -> tuple[ServerFacts, ...]:
        filters = [
            {"Name": "tag:Name", "Values": [name]},
            {"Name": "instance-state-name", "Values": list(ALIVE)},
        ]
        with mapped("ec2", server=name):
            pages = self._client.get_paginator("describe_instances").paginate(Filters=filters)
            found = [_facts(item) for page in pages for item in _instances(page)]
        return tuple(sorted(found, key=lambda it: (it.launched_at, it.id)))

    def facts(self, server: str) -> ServerFacts:
        with mapped("ec2", server=server):
            try:
                answer = self._client.describe_instances(InstanceIds=[server])
            except ClientError as error:
                if error_code(error) in UNKNOWN:
                    raise _not_found(server) from error
                raise
        found = [_facts(item) for item in _instances(answer)]
        if not found or found[0].state not in ALIVE:
            raise _not_found(server)
        return found[0]

    def current_version(self, template: str) -> int:
        with mapped("ec2", template=template):
            answer = self._client.describe_launch_template_versions(
                LaunchTemplateName=template, Versions=["$Default"]
            )
        return int(answer["LaunchTemplateVersions"][0]["VersionNumber"])

    def launch(
        self, template: str, version: int, *, token: str, tags: Mapping[str, str]
    ) -> ServerFacts:
        with mapped("ec2", template=template):
            answer = self._client.run_instances(
                LaunchTemplate={"LaunchTemplateName": template, "Version": str(version)},
                ClientToken=token,
                MinCount=1,
                MaxCount=1,
                TagSpecifications=[{"ResourceType": "instance", "Tags": _tag_list(tags)}],
            )
        return _facts(answer["Instances"][0])

    def set_groups(self, server: str, groups: tuple[str, ...]) -> None:
        with mapped("ec2", server=server):
            self._client.modify_instance_attribute(InstanceId=server, Groups=list(groups))

    def set_tags(self, server: str, tags: Mapping[str, str]) -> None:
        with mapped("ec2", server=server):
            self._client.create_tags(Resources=[server], Tags=_tag_list(tags))

    def stop(self, server: str) -> None:
        with mapped("ec2", server=server):
            self._client.stop_instances(InstanceIds=[server])

    def start(self, server: str) -> None:
        with mapped("ec2", server=server):
            self._client.start_instances(InstanceIds=[server])

    def terminate(self, server: str) -> None:
        with mapped("ec2", server=server):
            self._client.terminate_instances(InstanceIds=[server])


class LoadBalancerTargets:
    """Implements Targets with an ELBv2 client; a group is named by its ARN."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def register(self, group: str, server: str) -> None:
        with mapped("elasticloadbalancing", group=group):
            self._client.register_targets(TargetGroupArn=group, Targets=[{"Id": server}])

    def deregister(self, group: str, server: str) -> None:
        with mapped("elasticloadbalancing", group=group):
            try:
                self._client.deregister_targets(TargetGroupArn=group, Targets=[{"Id": server}])
            except ClientError as error:
                if error_code(error) != "InvalidTarget":  # gone already
                    raise

    def health(self, group: str) -> Mapping[str, str]:
        with mapped("elasticloadbalancing", group=group):
            answer = self._client.describe_target_health(TargetGroupArn=group)
        return {
            item["Target"]["Id"]: item["TargetHealth"]["State"]
            for item in answer["TargetHealthDescriptions"]
        }


def _instances(answer: dict[str, Any]) -> list[dict[str, Any]]:
    return [item for reservation in answer["Reservations"] for item in reservation["Instances"]]


def _facts(item: dict[str, Any]) -> ServerFacts:
    tags = {tag["Key"]: tag["Value"] for tag in item.get("Tags", [])}
    return ServerFacts(
        id=item["InstanceId"],
        state=item["State"]["Name"],
        address=item.get("PrivateIpAddress", ""),
        groups=tuple(sorted(group["GroupId"] for group in item.get("SecurityGroups", []))),
        name=tags.get("Name", ""),
        launched_at=item["LaunchTime"],
        tags=tags,
    )


def _tag_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in sorted(tags.items())]


def _not_found(server: str) -> NotReady:
    return NotReady(
        f"expected a server {server}, found none",
        hint="was it terminated? its name is in the run's record",
        code="server-not-found",
        server=server,
    )
