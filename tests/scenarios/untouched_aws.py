"""What AWS in the local cloud holds, read service by service, as plain values that can be compared.

Each reader gives what an operator could see there, but for what `NOT_STATE` names. A service that
Leeward has a right to change and that nothing here reads makes tests/house/test_drilled.py fail.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from botocore.exceptions import ClientError

from chalicelib.recover.sites.servers import RUN_TAG
from leeward.local.cloud import LocalCloud
from leeward.local.iam import ACCOUNT

Found = dict[str, Any]
# Where a bucket's settings are asked for, and what of an answer tells nothing.
BUCKET_SETTINGS = (
    "get_bucket_policy",
    "get_bucket_versioning",
    "get_bucket_lifecycle_configuration",
    "get_bucket_encryption",
    "get_bucket_tagging",
    "get_bucket_notification_configuration",
    "get_bucket_ownership_controls",
    "get_bucket_replication",
    "get_bucket_cors",
    "get_bucket_logging",
    "get_bucket_website",
    "get_object_lock_configuration",
    "get_public_access_block",
)
# Of an object, beside its bytes: what an isolation, a lock or a hold changes.
OBJECT_FIELDS = (
    "lock_mode", "lock_until", "lock_legal_status", "_metadata", "_storage_class", "encryption",
)  # fmt: skip
INSTANCE_FIELDS = (
    "State", "Tags", "IamInstanceProfile", "ImageId", "InstanceType", "BlockDeviceMappings",
    "PrivateIpAddress", "PublicIpAddress",
)  # fmt: skip
# The images that the local EC2 begins with have one each.
OF_AN_IMAGE = "Auto-created snapshot for AMI"
# What the local EC2 counts up each time it is looked at.
VOLATILE = ("AttachTime", "ResponseMetadata", "CreateTime", "LastAccessedDate", "NextToken")


def buckets(cloud: LocalCloud, region: str) -> Found:
    """Every bucket of the account (they are the same in each region): settings and objects."""
    client = cloud.client("s3", region)
    names = [it["Name"] for it in client.list_buckets()["Buckets"]]
    return {
        name: {"settings": _settings(client, name), "objects": _objects(name)} for name in names
    }


def _settings(client: Any, bucket: str) -> Found:
    return {name: _asked(getattr(client, name), Bucket=bucket) for name in BUCKET_SETTINGS}


def _objects(bucket: str) -> Found:
    """ "key version" -> digest of bytes, tags, locks and metadata; a deletion is a version too."""
    from moto.s3.models import s3_backends

    backend = s3_backends[ACCOUNT]["aws"]
    return {
        f"{one.name} {one.version_id}": _digest_of(one, backend.tagger)
        for _, versions in backend.buckets[bucket].keys.iterlists()
        for one in versions
    }


def _digest_of(one: Any, tagger: Any) -> str:
    if not hasattr(one, "etag"):
        return "deleted"
    more = {name: getattr(one, name, None) for name in OBJECT_FIELDS}
    tags = tagger.list_tags_for_resource(one.arn)
    text = json.dumps([one.etag, more, tags], sort_keys=True, default=str)
    return hashlib.sha256(one.value + text.encode()).hexdigest()


def tables(cloud: LocalCloud, region: str) -> Found:
    """ "table pk sk" -> the item."""
    client = cloud.client("dynamodb", region)
    return {
        f"{name} {item['pk']['S']} {item['sk']['S']}": json.dumps(item, sort_keys=True, default=str)
        for name in client.list_tables()["TableNames"]
        for page in client.get_paginator("scan").paginate(TableName=name)
        for item in page["Items"]
    }


def secrets(cloud: LocalCloud, region: str) -> Found:
    """Values with their stages, where they are replicated, tags."""
    client = cloud.client("secretsmanager", region)
    return {
        it["Name"]: {
            "value": client.get_secret_value(SecretId=it["Name"])["SecretString"],
            "versions": client.describe_secret(SecretId=it["Name"]).get("VersionIdsToStages"),
            "replicas": [
                one["Region"]
                for one in client.describe_secret(SecretId=it["Name"]).get("ReplicationStatus", ())
            ],
            "primary": it.get("PrimaryRegion"),
            "tags": it.get("Tags"),
        }
        for it in client.list_secrets()["SecretList"]
    }


def servers(cloud: LocalCloud, region: str) -> Found:
    """EC2: instances with their networks and volumes, the rules of groups, templates, snapshots.

    A server that a run launched and terminated is none: EC2 forgets it within the hour.
    """
    ec2 = cloud.client("ec2", region)
    instances = [it for one in ec2.describe_instances()["Reservations"] for it in one["Instances"]]
    templates = ec2.describe_launch_templates()["LaunchTemplates"]
    return {
        "instances": {
            f"{_tags(it).get('Name', '')} {it['InstanceId']}": _instance(it)
            for it in instances
            if it["State"]["Name"] != "terminated" or RUN_TAG not in _tags(it)
        },
        "groups": {it["GroupId"]: it for it in ec2.describe_security_groups()["SecurityGroups"]},
        "templates": {
            it["LaunchTemplateName"]: _without(
                ec2.describe_launch_template_versions(LaunchTemplateId=it["LaunchTemplateId"])[
                    "LaunchTemplateVersions"
                ]
            )
            for it in templates
        },
        "volumes": {it["VolumeId"]: _without(it) for it in ec2.describe_volumes()["Volumes"]},
        "snapshots": _snapshots(region),
    }


def _tags(found: Found) -> dict[str, str]:
    return {it["Key"]: it["Value"] for it in found.get("Tags", ())}


def _instance(found: Found) -> Found:
    """With the groups of each of its networks, which an isolation changes one by one."""
    groups = {it["NetworkInterfaceId"]: it["Groups"] for it in found["NetworkInterfaces"]}
    return _without({name: found.get(name) for name in INSTANCE_FIELDS} | {"networks": groups})


def _snapshots(region: str) -> Found:
    """Not by the API, which tells thousands of snapshots of images."""
    from moto.ec2.models import ec2_backends

    found = ec2_backends[ACCOUNT][region].snapshots.values()
    return {
        f"{_server_of(it.volume)} {it.id}": [it.description, str(it.get_tags())]
        for it in found
        if not it.description.startswith(OF_AN_IMAGE)
    }


def _server_of(volume: Any) -> str:
    """The name of the server that has the volume."""
    tags = volume.attachment.instance.get_tags() if volume.attachment else []
    return next((str(it["value"]) for it in tags if it["key"] == "Name"), "")


def balancers(cloud: LocalCloud, region: str) -> Found:
    """Target groups, and which targets each has."""
    elb = cloud.client("elbv2", region)
    return {
        it["TargetGroupArn"]: {
            "group": it,
            "targets": sorted(
                json.dumps(one["Target"], sort_keys=True)
                for one in elb.describe_target_health(TargetGroupArn=it["TargetGroupArn"])[
                    "TargetHealthDescriptions"
                ]
            ),
        }
        for it in elb.describe_target_groups()["TargetGroups"]
    }


def identities(cloud: LocalCloud, region: str) -> Found:
    """Users, groups, roles with all their policies; access keys; instance profiles."""
    iam = cloud.client("iam", region)
    details = iam.get_account_authorization_details(
        Filter=["User", "Role", "Group", "LocalManagedPolicy"]
    )
    names = ("UserDetailList", "RoleDetailList", "GroupDetailList", "Policies")
    return {name: _without(details[name]) for name in names} | {
        f"keys of {it['UserName']}": {
            key["AccessKeyId"]: key["Status"]
            for key in iam.list_access_keys(UserName=it["UserName"])["AccessKeyMetadata"]
        }
        for it in details["UserDetailList"]
    }


def names(cloud: LocalCloud, region: str) -> Found:
    """Every record of every zone, and the health checks that decide which of them answers."""
    client = cloud.client("route53", region)
    zones = {
        zone["Name"]: client.list_resource_record_sets(HostedZoneId=zone["Id"])[
            "ResourceRecordSets"
        ]
        for zone in client.list_hosted_zones()["HostedZones"]
    }
    checks = client.list_health_checks()["HealthChecks"]
    return {"zones": zones, "checks": {it["Id"]: it["HealthCheckConfig"] for it in checks}}


def controls(cloud: LocalCloud, region: str) -> Found:
    """The routing controls that are on."""
    return {arn: one.is_on(arn) for one in cloud.clusters for arn in one.states}


def builds(cloud: LocalCloud, region: str) -> Found:
    """CodeBuild's projects; what a build made is in the state's bucket."""
    client = cloud.client("codebuild", region)
    names = client.list_projects()["projects"]
    found = client.batch_get_projects(names=names)["projects"] if names else []
    return {it["name"]: _without(it) for it in found}


def parameters(cloud: LocalCloud, region: str) -> Found:
    client = cloud.client("ssm", region)
    pages = client.get_paginator("describe_parameters").paginate()
    names = [it["Name"] for page in pages for it in page["Parameters"]]
    return {name: client.get_parameter(Name=name)["Parameter"]["Value"] for name in names}


def functions(cloud: LocalCloud, region: str) -> Found:
    """Each function's code, settings and whether something else may be run in its place."""
    client = cloud.client("lambda", region)
    pages = client.get_paginator("list_functions").paginate()
    found = [it for page in pages for it in page["Functions"]]
    return {it["FunctionName"]: [it["CodeSha256"], it.get("Environment")] for it in found}


def schedules(cloud: LocalCloud, region: str) -> Found:
    """EventBridge's rules: when, for what, whether enabled, to whom."""
    client = cloud.client("events", region)
    rules = client.list_rules()["Rules"]
    return {
        it["Name"]: [it, client.list_targets_by_rule(Rule=it["Name"])["Targets"]] for it in rules
    }


def alarms(cloud: LocalCloud, region: str) -> Found:
    """What they watch and whom they tell; their state follows the metrics."""
    found = cloud.client("cloudwatch", region).describe_alarms()["MetricAlarms"]
    return {
        it["AlarmName"]: {key: value for key, value in it.items() if "State" not in key}
        for it in found
    }


def machines(cloud: LocalCloud, region: str) -> Found:
    client = cloud.client("stepfunctions", region)
    return {
        it["name"]: client.describe_state_machine(stateMachineArn=it["stateMachineArn"])[
            "definition"
        ]
        for it in client.list_state_machines()["stateMachines"]
    }


def keys(cloud: LocalCloud, region: str) -> Found:
    """Whether each may be used."""
    client = cloud.client("kms", region)
    return {
        it["KeyId"]: client.describe_key(KeyId=it["KeyId"])["KeyMetadata"]["KeyState"]
        for it in client.list_keys()["Keys"]
    }


# By service, as IAM's actions name it. Those of the account are the same in every region.
OF_ACCOUNT: dict[str, Callable[[LocalCloud, str], Found]] = {
    "s3": buckets,
    "iam": identities,
    "route53": names,
    "route53-recovery-cluster": controls,
}
OF_REGION: dict[str, Callable[[LocalCloud, str], Found]] = {
    "dynamodb": tables,
    "secretsmanager": secrets,
    "ec2": servers,
    "elasticloadbalancing": balancers,
    "codebuild": builds,
    "ssm": parameters,
    "lambda": functions,
    "events": schedules,
    "cloudwatch": alarms,
    "states": machines,
    "kms": keys,
}
# What else Leeward may change there, and why it is no state of production.
NOT_STATE = {
    "cloudwatch:PutMetricData": "metrics tell what was seen",
    "codebuild:StartBuild": "a list of builds that were; what they made is read in S3",
    "dynamodb:Query": "it reads",
    "ecs:RunTask": "a worker of the run, which ends with it; what it does is read where it does it",
    "kms:Decrypt": "it uses a key",
    "kms:Encrypt": "it uses a key",
    "kms:GenerateDataKey": "it uses a key",
    "kms:GenerateMac": "it uses a key",
    "kms:Sign": "it uses a key",
    "kms:VerifyMac": "it uses a key",
    "lambda:InvokeFunction": "what the function does is read where it does it",
    "logs:CreateLogStream": "logs tell what was done",
    "logs:PutLogEvents": "logs tell what was done",
    "s3:CreateJob": "what a job of many copies writes is read in its buckets",
    "ses:SendEmail": "messages of a drill go to addresses for drills (tests/unit/test_messages.py)",
    "sns:Publish": "messages of a drill go to addresses for drills (tests/unit/test_messages.py)",
    "ssm:CancelCommand": "what a command did is read on the host",
    "ssm:SendCommand": "what a command did is read on the host",
    "states:SendTaskFailure": "the run's own state machine",
    "states:SendTaskSuccess": "the run's own state machine",
    "states:StartExecution": "the run itself",
}


def everything(cloud: LocalCloud) -> Found:
    """By service and region."""
    first = cloud.regions[0]
    found = {service: read(cloud, first) for service, read in OF_ACCOUNT.items()}
    for region in cloud.regions:
        for service, read in OF_REGION.items():
            found[f"{service} {region}"] = read(cloud, region)
    return found


def _asked(ask: Callable[..., Found], **words: str) -> Any:
    """The answer; the error's code where there is no such setting."""
    try:
        return _without(ask(**words))
    except ClientError as error:
        return error.response["Error"]["Code"]


def _without(found: Any) -> Any:
    """A copy without what tells only when it was asked."""
    if isinstance(found, dict):
        return {key: _without(value) for key, value in found.items() if key not in VOLATILE}
    return [_without(it) for it in found] if isinstance(found, list) else found


def leaves(found: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Each value with where it stands."""
    if isinstance(found, dict):
        for key, value in found.items():
            yield from leaves(value, (*path, str(key)))
    else:
        yield " / ".join(path), found


def differences(before: Iterable[tuple[str, Any]], after: Iterable[tuple[str, Any]]) -> list[str]:
    """One line for each value that is another, is new, or is gone."""
    was, now = dict(before), dict(after)
    return [
        f"{path}: {was.get(path, 'absent')!r:.200} -> {now.get(path, 'absent')!r:.200}"
        for path in sorted({*was, *now})
        if was.get(path, "absent") != now.get(path, "absent")
    ]
