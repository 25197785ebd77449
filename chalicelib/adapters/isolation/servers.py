"""Instances in a security group that lets nothing through, and snapshots of their volumes.

An instance is left running: what is in its memory is there to be taken, and terminating it is
refused. A new security group does not end connections that are tracked already: they end when they
are idle. Source: EC2 user guide, "Security group connection tracking".
"""

from __future__ import annotations

from typing import Any

from chalicelib.adapters.aws_errors import mapped
from chalicelib.errors import NotReady
from chalicelib.ports.isolation import Barrier, Lowered, Raised

ALIVE = ["pending", "running", "stopping", "stopped"]
RUN_TAG = "leeward:run"


class NetworkBarrier(Barrier):
    """The instances of a name. `client`: boto3's for EC2. `group`: id or name of the group."""

    def __init__(self, client: Any, name: str, group: str) -> None:
        self._client = client
        self._name = name
        self._group = group

    def look(self) -> dict[str, Any]:
        found = instances_of(self._client, self._name)
        interfaces = {
            it["NetworkInterfaceId"]: [group["GroupId"] for group in it["Groups"]]
            for instance in found
            for it in instance["NetworkInterfaces"]
        }
        return {
            "interfaces": interfaces,
            "protected": {it["InstanceId"]: self._is_protected(it["InstanceId"]) for it in found},
        }

    def raise_up(self, before: dict[str, Any]) -> Raised:
        group = self._closed_group()
        for interface in before["interfaces"]:
            self._put_in(interface, [group])
        for instance in before["protected"]:
            self._protect(instance, protected=True)
        return Raised(
            f"{', '.join(before['protected'])} ({self._name}) in {group}: no new connection in or"
            " out, termination refused; memory was not taken (no agent on the host): the instance"
            " is left running for it"
        )

    def lower(self, before: dict[str, Any], *, as_found: bool = False) -> Lowered:
        for interface, groups in before["interfaces"].items():
            self._put_in(interface, groups)
        for instance, protected in before["protected"].items():
            self._protect(instance, protected=protected)
        return Lowered(f"{self._name} is in its security groups again")

    def _closed_group(self) -> str:
        """Raises NotReady (code "quarantine-group-open", "no-quarantine-group")."""
        key = "group-id" if self._group.startswith("sg-") else "group-name"
        with mapped("ec2", group=self._group):
            found = self._client.describe_security_groups(
                Filters=[{"Name": key, "Values": [self._group]}]
            )["SecurityGroups"]
        if len(found) != 1:
            raise NotReady(
                f"expected one security group {self._group}, found {len(found)}",
                hint="name the quarantine group of the instance's network by its id in the plan",
                code="no-quarantine-group",
            )
        if found[0]["IpPermissions"] or found[0]["IpPermissionsEgress"]:
            raise NotReady(
                f"expected {self._group} to let nothing through, found rules in it",
                hint="remove its rules, the one for all outgoing traffic too, that AWS adds",
                code="quarantine-group-open",
            )
        return str(found[0]["GroupId"])

    def _put_in(self, interface: str, groups: list[str]) -> None:
        with mapped("ec2", interface=interface):
            self._client.modify_network_interface_attribute(
                NetworkInterfaceId=interface, Groups=groups
            )

    def _is_protected(self, instance: str) -> bool:
        with mapped("ec2", instance=instance):
            found = self._client.describe_instance_attribute(
                InstanceId=instance, Attribute="disableApiTermination"
            )
        return bool(found["DisableApiTermination"].get("Value"))

    def _protect(self, instance: str, *, protected: bool) -> None:
        with mapped("ec2", instance=instance):
            self._client.modify_instance_attribute(
                InstanceId=instance, DisableApiTermination={"Value": protected}
            )


class SnapshotsBarrier(Barrier):
    """Of all volumes of the instances of a name, those of one instance at one moment.

    Lowering keeps them: they are evidence, and a person deletes them.
    """

    def __init__(self, client: Any, name: str, run_id: str) -> None:
        self._client = client
        self._name = name
        self._run_id = run_id

    def look(self) -> dict[str, Any]:
        found = instances_of(self._client, self._name)
        return {
            "volumes": {
                it["InstanceId"]: [disk["Ebs"]["VolumeId"] for disk in it["BlockDeviceMappings"]]
                for it in found
            }
        }

    def raise_up(self, before: dict[str, Any]) -> Raised:
        made = [it for instance in before["volumes"] for it in self._snapshots_of(instance)]
        volumes = sum(len(found) for found in before["volumes"].values())
        return Raised(f"{len(made)} snapshots of {volumes} volumes of {self._name}", tuple(made))

    def lower(self, before: dict[str, Any], *, as_found: bool = False) -> Lowered:
        return Lowered(f"snapshots of {self._name} are kept", ("evidence is deleted by a person",))

    def _snapshots_of(self, instance: str) -> list[str]:
        """Those that an earlier attempt of the run made, or new ones."""
        filters = {f"tag:{RUN_TAG}": self._run_id, "tag:leeward:instance": instance}
        with mapped("ec2", instance=instance):
            found = self._client.describe_snapshots(
                Filters=[{"Name": name, "Values": [value]} for name, value in filters.items()]
            )["Snapshots"]
            if not found:
                tags = {RUN_TAG: self._run_id, "leeward:instance": instance}
                found = self._client.create_snapshots(
                    InstanceSpecification={"InstanceId": instance},
                    Description=f"leeward: evidence of {self._run_id}",
                    TagSpecifications=[
                        {
                            "ResourceType": "snapshot",
                            "Tags": [{"Key": key, "Value": it} for key, it in tags.items()],
                        }
                    ],
                )["Snapshots"]
        return [str(it["SnapshotId"]) for it in found]


def instances_of(client: Any, name: str) -> list[dict[str, Any]]:
    """Raises NotReady (code "no-instance") when none of that name is there."""
    with mapped("ec2", instance=name):
        pages = client.get_paginator("describe_instances").paginate(
            Filters=[
                {"Name": "tag:Name", "Values": [name]},
                {"Name": "instance-state-name", "Values": ALIVE},
            ]
        )
        found = [it for page in pages for one in page["Reservations"] for it in one["Instances"]]
    if not found:
        raise NotReady(
            f"expected an instance whose tag Name is {name}, found none",
            hint="look whether it was terminated, and correct `instance` in the plan",
            code="no-instance",
        )
    return found
