"""What moves names by the data plane, made beforehand: switch bucket, health checks, record sets.

`switch_resources` belongs into the stack of the standby region, and without one in AWS into
Leeward's own; `names_template` is a stack of its own, deployed when its health checks have data.
Everything here works without the primary region and without Route 53's control plane once it is
there: docs/traffic.md, docs/decisions/0014-the-switch-is-one-object.md.
"""

from __future__ import annotations

from typing import Any

from chalicelib.plan.components import NameRecord, Names
from chalicelib.plan.model import Plan
from leeward.packaging.parts import Resources, title

# The bucket's name is known before it is made: to the other region's functions, and to a person
# with nothing but a laptop.
SWITCH_BUCKET = "leeward-switch-${AWS::AccountId}-%s"
# Route 53 asks every 10 s, and believes what it saw twice: about 20 s to notice a switch.
CHECK_SECONDS, CHECK_TIMES = 10, 2
# Where Route 53's health checkers ask from. A check of a domain name uses IPv4 alone.
# Source: https://ip-ranges.amazonaws.com/ip-ranges.json, service ROUTE53_HEALTHCHECKS, without the
# partition of China.
CHECKERS = (
    "15.177.0.0/18",
    "54.183.255.128/26",
    "54.228.16.0/26",
    "54.232.40.64/26",
    "54.241.32.64/26",
    "54.243.31.192/26",
    "54.244.52.192/26",
    "54.245.168.0/26",
    "54.248.220.0/26",
    "54.250.253.192/26",
    "54.251.31.128/26",
    "54.252.79.128/26",
    "54.252.254.192/26",
    "54.255.254.192/26",
    "107.23.255.0/26",
    "176.34.159.192/26",
    "177.71.207.128/26",
)


def moved_by(plan: Plan, failover: str) -> dict[str, Names]:
    """The plan's names that move in this way, those for drills among them."""
    return {
        name: it
        for name, it in plan.components.items()
        if isinstance(it, Names) and it.failover == failover and it.provider == "route53"
    }


def names_globals(plan: Plan) -> dict[str, Any]:
    """What every function is told of the switch bucket."""
    region = plan.aws_region("standby")
    variables = {
        "LEEWARD_SWITCH_BUCKET": {"Fn::Sub": SWITCH_BUCKET % (region or "${AWS::Region}")},
        "LEEWARD_SWITCH_REGION": region or {"Ref": "AWS::Region"},
    }
    return {"Function": {"Environment": {"Variables": variables}}}


def names_parameters(plan: Plan) -> dict[str, Any]:
    """What the function that moves names may change, for its policy.

    IAM takes no empty list: without any there is one that nobody has.
    """
    names = [it for it in plan.components.values() if isinstance(it, Names)]
    zones = [it.hosted_zone for it in moved_by(plan, "change-records").values() if it.hosted_zone]
    groups = [it.target_group for it in names if it.target_group]
    controls = [arn for it in names for arn in it.routing_controls.values()]
    records = [
        it.name for found in moved_by(plan, "change-records").values() for it in found.records
    ]
    return {
        "RecordNames": _list([_normalized(it) for it in records] or ["leeward-none"]),
        "HostedZones": _list([f"arn:aws:route53:::hostedzone/{it}" for it in zones or [NOBODYS]]),
        "TargetGroups": _list(groups or [NOBODYS_GROUP]),
        "RoutingControls": _list(controls or [NOBODYS_CONTROL]),
    }


def _normalized(name: str) -> str:
    """As Route 53 gives a record's name to IAM: the star is its octal code."""
    return name.rstrip(".").lower().replace("*", "\\052")


NOBODYS = "LEEWARDNONE"
NOBODYS_GROUP = "arn:aws:elasticloadbalancing:*:*:targetgroup/leeward-none/0000000000000000"
NOBODYS_CONTROL = "arn:aws:route53-recovery-control::000000000000:controlpanel/leeward-none"


def _list(arns: list[str]) -> dict[str, str]:
    return {"Type": "CommaDelimitedList", "Default": ",".join(sorted(set(arns)))}


def switch_resources(plan: Plan) -> Resources:
    """The switch bucket, who may read what of it, and a health check for each object."""
    checked = moved_by(plan, "health-check")
    resources = _bucket() | _bucket_policy(checked)
    for name in checked:
        resources |= _health_check(name)
    return resources


def _bucket() -> Resources:
    """Encrypted by S3's own key: a health checker may use no other."""
    default = {"SSEAlgorithm": "AES256"}
    by_s3 = {"ServerSideEncryptionByDefault": default, "BucketKeyEnabled": False}
    return {
        "SwitchBucket": {
            "Type": "AWS::S3::Bucket",
            "DeletionPolicy": "Retain",
            "UpdateReplacePolicy": "Retain",
            "Properties": {
                "BucketName": {"Fn::Sub": SWITCH_BUCKET % "${AWS::Region}"},
                "VersioningConfiguration": {"Status": "Enabled"},
                "PublicAccessBlockConfiguration": {
                    "BlockPublicAcls": True,
                    "BlockPublicPolicy": True,
                    "IgnorePublicAcls": True,
                    "RestrictPublicBuckets": True,
                },
                "OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]},
                "BucketEncryption": {"ServerSideEncryptionConfiguration": [by_s3]},
            },
        }
    }


def _bucket_policy(checked: dict[str, Names]) -> Resources:
    """Health checkers sign nothing, so that where they ask from is all that tells them.

    Limited to fixed addresses the policy is not public in the eyes of Block Public Access.
    Source: S3 user guide, "The meaning of public".
    """
    statements: list[dict[str, Any]] = [
        {
            "Sid": "OnlyEncrypted",
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:*",
            "Resource": [
                {"Fn::GetAtt": ["SwitchBucket", "Arn"]},
                {"Fn::Sub": "${SwitchBucket.Arn}/*"},
            ],
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        }
    ]
    if checked:
        statements.append(
            {
                "Sid": "HealthCheckersSeeTheSwitches",
                "Effect": "Allow",
                "Principal": "*",
                "Action": "s3:GetObject",
                "Resource": [
                    {"Fn::Sub": f"${{SwitchBucket.Arn}}/switch/{name}"} for name in sorted(checked)
                ],
                "Condition": {"IpAddress": {"aws:SourceIp": list(CHECKERS)}},
            }
        )
    document = {"Version": "2012-10-17", "Statement": statements}
    return {
        "SwitchBucketPolicy": {
            "Type": "AWS::S3::BucketPolicy",
            "Properties": {"Bucket": {"Ref": "SwitchBucket"}, "PolicyDocument": document},
        }
    }


def check_id(component: str) -> str:
    """The logical id of the component's health check, also the name of its output."""
    return f"SwitchCheck{title(component)}"


def _health_check(component: str) -> Resources:
    """Inverted: while the object can be read, the home site counts as unhealthy."""
    return {
        check_id(component): {
            "Type": "AWS::Route53::HealthCheck",
            "Properties": {
                "HealthCheckConfig": {
                    "Type": "HTTPS",
                    "FullyQualifiedDomainName": {
                        "Fn::GetAtt": ["SwitchBucket", "RegionalDomainName"]
                    },
                    "Port": 443,
                    "ResourcePath": f"/switch/{component}",
                    "EnableSNI": True,
                    "Inverted": True,
                    "RequestInterval": CHECK_SECONDS,
                    "FailureThreshold": CHECK_TIMES,
                },
                "HealthCheckTags": [{"Key": "Name", "Value": f"leeward-switch-{component}"}],
            },
        }
    }


def check_outputs(plan: Plan) -> dict[str, Any]:
    """Outputs of the stack with `switch_resources`: what `names_template` takes as parameters."""
    return {
        check_id(name): {"Value": {"Fn::GetAtt": [check_id(name), "HealthCheckId"]}}
        for name in moved_by(plan, "health-check")
    }


def primary_outputs(plan: Plan) -> dict[str, Any]:
    """The same of the primary stack, which has these resources where there is no standby region."""
    return check_outputs(plan) if plan.aws_region("standby") is None else {}


def names_template(plan: Plan) -> dict[str, Any] | None:
    """The record sets that fail over, as a stack of its own; None when the plan has none.

    Deployed some minutes after the health checks: an inverted check counts as unhealthy until it
    has data, so that record sets which are made at once would lead everybody to the standby site.
    """
    checked, controlled = moved_by(plan, "health-check"), moved_by(plan, "routing-control")
    resources: Resources = {}
    for name, found in (checked | controlled).items():
        resources |= _control_checks(name, found)
        for record in found.records:
            resources |= _record_sets(plan, name, found, record)
    if not resources:
        return None
    given = "Output %s of the stack of the standby region"
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "Leeward: names that fail over",
        "Parameters": {
            check_id(name): {"Type": "String", "Description": given % check_id(name)}
            for name, it in checked.items()
            if it.records
        },
        "Resources": resources,
    }


def _control_checks(component: str, found: Names) -> Resources:
    """A health check that is as a routing control is set; it has its state from the start."""
    return {
        _control_id(component, site): {
            "Type": "AWS::Route53::HealthCheck",
            "Properties": {
                "HealthCheckConfig": {"Type": "RECOVERY_CONTROL", "RoutingControlArn": arn},
                "HealthCheckTags": [{"Key": "Name", "Value": f"leeward-{component}-{site}"}],
            },
        }
        for site, arn in found.routing_controls.items()
        if found.failover == "routing-control"
    }


def _control_id(component: str, site: str) -> str:
    return f"ControlCheck{title(component)}{title(site)}"


def _record_sets(plan: Plan, component: str, found: Names, record: NameRecord) -> Resources:
    """PRIMARY for the home site, SECONDARY for the other.

    With a switch object the PRIMARY is tied to its check, and the SECONDARY to nothing, so that it
    can be answered whatever happens; with routing controls each to its site's.
    """
    home = found.site or next(name for name, it in plan.sites.items() if it.role == "primary")
    away = next((name for name in plan.sites if name != home), "")
    resources: Resources = {}
    for role, site in (("PRIMARY", home), ("SECONDARY", away)):
        if site not in record.answers:
            continue
        properties: dict[str, Any] = {
            **_zone(found),
            "Name": f"{record.name.rstrip('.')}.",
            "Type": record.type,
            "TTL": str(record.ttl),
            "ResourceRecords": list(record.answers[site]),
            "SetIdentifier": f"{component}-{site}",
            "Failover": role,
        }
        if check := _check_of(component, found, role, site):
            properties["HealthCheckId"] = {"Ref": check}
        logical = f"Record{title(component)}{_plain(record.name)}{record.type}{title(role.lower())}"
        resources[logical] = {"Type": "AWS::Route53::RecordSet", "Properties": properties}
    return resources


def _check_of(component: str, found: Names, role: str, site: str) -> str:
    if found.failover == "routing-control":
        return _control_id(component, site) if site in found.routing_controls else ""
    return check_id(component) if role == "PRIMARY" else ""


def _zone(found: Names) -> dict[str, str]:
    if found.hosted_zone:
        return {"HostedZoneId": found.hosted_zone}
    return {"HostedZoneName": f"{found.zone.rstrip('.')}."}


def _plain(name: str) -> str:
    words = name.replace("*", "any").replace(".", "-").replace("_", "-").split("-")
    return "".join(word.capitalize() for word in words)
