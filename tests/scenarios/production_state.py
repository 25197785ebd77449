"""What is production's in the local cloud, as one value: equal before and after a drill.

Leeward's own state, evidence, metrics and backups are not part of it, nor are stand-ins for drills:
untouched.py reads all of that too, and is to take the place of this.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from typing import Any

from chalicelib.plan.model import Plan
from leeward.local.cloud import LocalCloud
from leeward.local.production import Production

State = dict[str, Any]


def state_of(cloud: LocalCloud, plan: Plan, *servers: Production) -> State:
    """Secrets, objects, names, instances and databases, by what they are and where."""
    found: State = {}
    for region in cloud.regions:
        found[f"secrets {region}"] = _secrets(cloud, plan, region)
        found[f"instances {region}"] = _instances(cloud, region)
    found["objects"] = {name: _objects(cloud, name) for name in _buckets(cloud)}
    found["records"] = _records(cloud)
    for server in servers:
        found[f"server {server.port}"] = _server(server)
    return found


def _secrets(cloud: LocalCloud, plan: Plan, region: str) -> State:
    stand_ins = {
        secret
        for name in drill_stand_ins(plan)
        for field in ("operator_secret", "application_secret", "secret")
        if (secret := getattr(plan.components[name], field, None))
    }
    client = cloud.client("secretsmanager", region)
    names = [it["Name"] for it in client.list_secrets()["SecretList"]]
    return {
        name: client.get_secret_value(SecretId=name)["SecretString"]
        for name in names
        if name not in stand_ins
    }


def drill_stand_ins(plan: Plan) -> frozenset[str]:
    """The components that only drills act on."""
    return frozenset(
        component.stand_ins["drill"]
        for component in plan.components.values()
        if "drill" in component.stand_ins
    )


def _buckets(cloud: LocalCloud) -> list[str]:
    names = [it["Name"] for it in cloud.client("s3").list_buckets()["Buckets"]]
    return [name for name in names if not name.startswith("leeward-")]


def _objects(cloud: LocalCloud, bucket: str) -> list[tuple[str, ...]]:
    pages = cloud.client("s3").get_paginator("list_object_versions").paginate(Bucket=bucket)
    return sorted(
        (kind, it["Key"], it["VersionId"], str(it.get("ETag")))
        for page in pages
        for kind in ("Versions", "DeleteMarkers")
        for it in page.get(kind, ())
    )


def _instances(cloud: LocalCloud, region: str) -> list[str]:
    answer = cloud.client("ec2", region).describe_instances()
    found = [it for each in answer["Reservations"] for it in each["Instances"]]
    return sorted(json.dumps(_plain(it), sort_keys=True) for it in found)


def _plain(instance: State) -> State:
    groups = sorted(group["GroupId"] for group in instance["SecurityGroups"])
    return {"id": instance["InstanceId"], "state": instance["State"]["Name"], "groups": groups,
            "tags": instance.get("Tags", [])}  # fmt: skip


def _records(cloud: LocalCloud) -> State:
    client = cloud.client("route53")
    return {
        zone["Name"]: client.list_resource_record_sets(HostedZoneId=zone["Id"])[
            "ResourceRecordSets"
        ]
        for zone in client.list_hosted_zones()["HostedZones"]
    }


def _server(server: Production) -> State:
    """Roles, databases and the content of each: nobody may be writing."""
    names = _lines(server, "SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY 1")
    roles = _lines(
        server,
        "SELECT rolname, rolcanlogin, rolvaliduntil, shobj_description(oid, 'pg_authid')"
        " FROM pg_roles ORDER BY 1",
    )
    slots = _lines(server, "SELECT slot_name, slot_type FROM pg_replication_slots ORDER BY 1")
    dumps = {name: _dump(server, name) for name in names if name != "postgres"}
    return {"databases": names, "roles": roles, "slots": slots, "content": dumps}


def _lines(server: Production, sql: str) -> list[str]:
    command = [str(server.binaries.tool("psql")), "-X", "-At", "-c", sql]
    return _run(server, command).decode().splitlines()


def _dump(server: Production, name: str) -> str:
    command = [str(server.binaries.tool("pg_dump")), "--no-comments", name]
    text = b"\n".join(
        line for line in _run(server, command).splitlines() if b"restrict" not in line
    )
    return hashlib.sha256(text).hexdigest()


def _run(server: Production, command: list[str]) -> bytes:
    environment = server.binaries.environment() | server.environment()
    return subprocess.run(command, env=environment, capture_output=True, check=True).stdout
