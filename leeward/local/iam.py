"""Least privilege: which IAM actions an AWS call needs, and whether a role's documents allow it.

moto's own enforcement knows the resource of a call for four services only, so calls are judged
here, before they are made, by the inline policies of the function's role. An unknown condition
key is an error, never a pass.
Source: https://docs.aws.amazon.com/service-authorization/latest/reference/ (one page a service).
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chalicelib.errors import BadInput

if TYPE_CHECKING:
    from leeward.local.runner import Call
    from leeward.local.sandbox import Function

ACCOUNT = "123456789012"
"""The account of a caller that moto has no user for."""
WRITTEN_BY_LAMBDA = {"logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"}
"""Grants that the Lambda service itself uses with the function's role."""

PREFIXES = {"monitoring": "cloudwatch"}
ACTIONS = {
    "lambda:Invoke": ["lambda:InvokeFunction"],
    "s3:ListObjectsV2": ["s3:ListBucket"],
    "s3:HeadBucket": ["s3:ListBucket"],
    "s3:ListObjectVersions": ["s3:ListBucketVersions"],
    "s3:HeadObject": ["s3:GetObject"],
    "s3:CreateMultipartUpload": ["s3:PutObject"],
    "s3:UploadPart": ["s3:PutObject"],
    "s3:UploadPartCopy": ["s3:PutObject"],
    "s3:CopyObject": ["s3:PutObject"],
    "s3:DeleteObjects": ["s3:DeleteObject"],
    "s3:CompleteMultipartUpload": ["s3:PutObject"],
    "s3:GetObjectAttributes": ["s3:GetObject", "s3:GetObjectAttributes"],
    "s3:GetBucketEncryption": ["s3:GetEncryptionConfiguration"],
    "s3:GetObjectLockConfiguration": ["s3:GetBucketObjectLockConfiguration"],
    "s3:GetBucketLifecycleConfiguration": ["s3:GetLifecycleConfiguration"],
    "s3:GetBucketReplication": ["s3:GetReplicationConfiguration"],
    "s3:GetPublicAccessBlock": ["s3:GetBucketPublicAccessBlock"],
    "s3:GetBucketNotificationConfiguration": ["s3:GetBucketNotification"],
    "s3:PutBucketLifecycleConfiguration": ["s3:PutLifecycleConfiguration"],
}
# S3 uses an object's KMS key with the caller's rights.
# Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingKMSEncryption.html
KEY_ACTIONS = {
    "GetObject": ["kms:Decrypt"],
    "PutObject": ["kms:GenerateDataKey"],
    "CreateMultipartUpload": ["kms:GenerateDataKey"],
    "UploadPart": ["kms:GenerateDataKey", "kms:Decrypt"],
    "UploadPartCopy": ["kms:GenerateDataKey", "kms:Decrypt"],
    "CopyObject": ["kms:GenerateDataKey"],
    "CompleteMultipartUpload": ["kms:Decrypt"],
}
VERSIONED = {
    "s3:GetObject": "s3:GetObjectVersion",
    "s3:GetObjectTagging": "s3:GetObjectVersionTagging",
    "s3:DeleteObject": "s3:DeleteObjectVersion",
}
ON_BUCKET = re.compile(
    r"s3:(ListBucket.*|(Get|Put|Delete)Bucket.*|(Get|Put)[A-Z][a-z]+Configuration)"
)


# Calls about one instance, and what a condition may ask of them.
ON_INSTANCES = frozenset(
    {"CreateTags", "ModifyInstanceAttribute", "RunInstances", "StartInstances", "StopInstances",
     "TerminateInstances"}
)  # fmt: skip
OF_INSTANCES = frozenset({"StringLike", "StringEquals", "ArnLike", "ForAllValues:StringEquals"})
INSTANCE_KEY = re.compile(r"aws:ResourceTag/.+|aws:TagKeys|ec2:(CreateAction|LaunchTemplate)")


@dataclass(frozen=True)
class Need:
    """One right that a call needs. leading: the partition that a call of DynamoDB is about.

    facts: the values of condition keys of EC2, by their names.
    """

    action: str
    resource: str
    leading: str = ""
    facts: tuple[tuple[str, str], ...] = ()


def needs_of(
    service: str,
    operation: str,
    parameters: dict[str, str],
    region: str,
    bucket_key: str | None = None,
    source_key: str | None = None,
) -> list[Need]:
    """The rights that AWS asks for a call.

    Args:
        service: botocore's signing name.
        parameters: those that are text; the others by name, with an empty value.
        bucket_key: ARN of the KMS key by which the call's bucket encrypts when not told otherwise.
        source_key: the same of the bucket that a copy reads.
    """
    if service == "ec2" and operation in ON_INSTANCES:
        return _needs_of_instance(operation, parameters, region)
    name = f"{PREFIXES.get(service, service)}:{operation}"
    actions = list(ACTIONS.get(name, [name]))
    if parameters.get("VersionId"):
        actions = [VERSIONED.get(action, action) for action in actions]
    if "ObjectLockRetainUntilDate" in parameters:
        actions.append("s3:PutObjectRetention")
    leading = parameters.get("LeadingKey", "")
    needs = [Need(it, _resource(service, it, parameters, region), leading) for it in actions]
    if copied := parameters.get("CopySource"):
        needs += _needs_of_source(copied, source_key)
    key = parameters.get("SSEKMSKeyId") or bucket_key
    if service == "s3" and key and parameters.get("ServerSideEncryption") != "AES256":
        needs += [Need(it, key) for it in KEY_ACTIONS.get(operation, ())]
    return needs


def _needs_of_instance(operation: str, parameters: dict[str, str], region: str) -> list[Need]:
    """Those of calls that make, change or end one instance, which may be in another region."""
    region = parameters.get("Region") or region
    own = f"arn:aws:ec2:{region}:{ACCOUNT}"
    if operation == "RunInstances":
        template = f"{own}:launch-template/{parameters.get('LaunchTemplate') or 'lt-named'}"
        from_template = (
            (("ec2:LaunchTemplate", template),) if "LaunchTemplate" in parameters else ()
        )
        tagged = Need("ec2:CreateTags", f"{own}:instance/*", "", (("ec2:CreateAction", operation),))
        launched = Need("ec2:RunInstances", "*", "", from_template)
        return [launched, tagged] if "TagSpecifications" in parameters else [launched]
    named = ("InstanceId", "InstanceIds", "Resources")
    instance = next((parameters[it] for it in named if parameters.get(it)), "*")
    facts = [(f"aws:ResourceTag/{key}", it) for key, it in instance_tags(region, instance).items()]
    if "TagKeys" in parameters:
        facts.append(("aws:TagKeys", parameters["TagKeys"]))
    return [Need(f"ec2:{operation}", f"{own}:instance/{instance}", "", tuple(facts))]


def instance_tags(region: str, instance: str) -> dict[str, str]:
    """Of an instance of the local cloud; none of one that it does not know."""
    if "moto.ec2.models" not in sys.modules:
        return {}
    from moto.ec2.models import ec2_backends

    return {
        str(it["key"]): str(it["value"])
        for it in ec2_backends[ACCOUNT][region].describe_tags({"resource-id": [instance]})
    }


def _needs_of_source(copied: str, key: str | None) -> list[Need]:
    """Of a copy's source, "bucket/key" or "bucket/key?versionId=..."."""
    path, _, version = copied.lstrip("/").partition("?versionId=")
    read = Need("s3:GetObjectVersion" if version else "s3:GetObject", f"arn:aws:s3:::{path}")
    return [read, Need("kms:Decrypt", key)] if key else [read]


def _resource(service: str, action: str, parameters: dict[str, str], region: str) -> str:
    def arn(rest: str) -> str:
        return rest if rest.startswith("arn:") else f"arn:aws:{service}:{region}:{ACCOUNT}:{rest}"

    if service == "s3":
        bucket = f"arn:aws:s3:::{parameters.get('Bucket', '')}"
        return bucket if ON_BUCKET.fullmatch(action) else f"{bucket}/{parameters.get('Key', '')}"
    if service == "dynamodb" and "TableName" in parameters:
        table = parameters["TableName"]
        return arn(table if table.startswith("arn:") else f"table/{table}")
    if service == "secretsmanager" and "SecretId" in parameters:
        secret = parameters["SecretId"]
        return arn(secret if secret.startswith("arn:") else f"secret:{secret}-AbCdEf")
    if service == "kms" and "KeyId" in parameters:
        key = parameters["KeyId"]
        return arn(key if key.startswith(("arn:", "alias/")) else f"key/{key}")
    if service == "lambda" and "FunctionName" in parameters:
        function = parameters["FunctionName"]
        return arn(function if function.startswith("arn:") else f"function:{function}")
    if service == "codebuild":
        project = parameters.get("projectName") or parameters.get("ids") or parameters.get("id")
        return arn(f"project/{project.partition(':')[0]}") if project else "*"
    if service == "ecs" and "taskDefinition" in parameters:
        # The newest revision of a family is meant, and judged as such.
        return arn(f"task-definition/{parameters['taskDefinition']}:1")
    if service == "logs" and "logStreamName" in parameters:
        group, stream = parameters["logGroupName"], parameters["logStreamName"]
        return arn(f"log-group:{group}:log-stream:{stream}")
    if service == "ssm" and "DocumentName" in parameters:
        return f"arn:aws:ssm:{region}::document/{parameters['DocumentName']}"
    if service == "route53" and "HostedZoneId" in parameters:
        return f"arn:aws:route53:::hostedzone/{parameters['HostedZoneId']}"
    if service == "route53-recovery-cluster":
        return parameters.get("RoutingControlArn", "*")
    if action == "route53:GetChange":
        return f"arn:aws:route53:::change/{parameters['Id'].rpartition('/')[2]}"
    if service == "elasticloadbalancing" and not action.startswith(f"{service}:Describe"):
        return parameters.get("TargetGroupArn", "*")
    if service == "iam":
        return _identity(parameters)
    if service == "states":
        return parameters.get("stateMachineArn") or parameters.get("executionArn") or "*"
    return "*"


def _identity(parameters: dict[str, str]) -> str:
    for name, kind in (("UserName", "user"), ("RoleName", "role")):
        if name in parameters:
            return f"arn:aws:iam::{ACCOUNT}:{kind}/{parameters[name]}"
    return "*"


def allows(documents: Iterable[dict[str, Any]], need: Need) -> bool:
    """Does any statement allow it, and none deny it?"""
    effects = {
        statement["Effect"]
        for document in documents
        for statement in _listed(document["Statement"])
        if any(_matches(it, need.action) for it in _listed(statement["Action"]))
        and any(_matches(it, need.resource) for it in _listed(_resources(statement)))
        and _holds(statement.get("Condition", {}), need)
    }
    return effects == {"Allow"}


def _resources(statement: dict[str, Any]) -> Any:
    if "NotAction" in statement or "NotResource" in statement:
        raise BadInput(f"a policy statement of what is not named is not judged here: {statement}")
    return statement["Resource"]


def _holds(condition: dict[str, Any], need: Need) -> bool:
    """Each key of a call must be like one of the patterns, or like none of them."""
    known = {"ForAllValues:StringLike": True, "ForAllValues:StringNotLike": False}
    for operator, keys in condition.items():
        if operator in OF_INSTANCES and all(map(INSTANCE_KEY.fullmatch, keys)):
            if not _instance_holds(keys, need):
                return False
            continue
        if operator not in known or set(keys) != {"dynamodb:LeadingKeys"} or not need.leading:
            raise BadInput(f"the condition cannot be judged here: {condition} of {need}")
        patterns = _listed(keys["dynamodb:LeadingKeys"])
        if any(_matches(it, need.leading) for it in patterns) is not known[operator]:
            return False
    return True


def _instance_holds(keys: dict[str, Any], need: Need) -> bool:
    """A key that a call does not have is like nothing; of the keys of tags, each must be named."""
    facts = dict(need.facts)
    for key, patterns in keys.items():
        values = facts[key].split(",") if key in facts else []
        if not values or not all(any(_matches(p, v) for p in _listed(patterns)) for v in values):
            return False
    return True


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _matches(pattern: str, text: str) -> bool:
    regex = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(regex, text) is not None


@dataclass(frozen=True)
class Judgement:
    """What a call needed; `denied` is AWS's words when the role does not have it."""

    needs: tuple[Need, ...]
    denied: str | None = None


def judge(function: Function, call: dict[str, Any]) -> Judgement:
    """May the function's role make the call {"service", "operation", "parameters"}?"""
    documents = role_documents(function.role)
    key = source = None
    if call["service"] == "s3":
        key = bucket_key(call["parameters"].get("Bucket", ""))
        source = bucket_key(call["parameters"].get("CopySource", "").lstrip("/").split("/")[0])
    found = needs_of(**call, region=function.region, bucket_key=key, source_key=source)
    needs = tuple(found)
    for need in needs:
        if not allows(documents, need):
            role = function.role.rpartition("/")[2]
            who = f"arn:aws:sts::{ACCOUNT}:assumed-role/{role}/{function.name}"
            why = f"because no identity-based policy allows the {need.action} action"
            what = f"not authorized to perform: {need.action} on resource: {need.resource}"
            return Judgement(needs, f"User: {who} is {what} {why}")
    return Judgement(needs, _denied_by_bucket(function, call, needs))


def _denied_by_bucket(
    function: Function, call: dict[str, Any], needs: tuple[Need, ...]
) -> str | None:
    """AWS's words when the policy of the call's own bucket denies it to the function's role."""
    from leeward.local.guard import denied_by_bucket

    if call["service"] != "s3":
        return None
    bucket = call["parameters"].get("Bucket", "")
    need = denied_by_bucket(function.role, needs, bucket)
    why = "with an explicit deny in a resource-based policy"
    if need is None:
        return None
    return f"not authorized to perform: {need.action} on {need.resource} {why}"


def bucket_key(bucket: str) -> str | None:
    """The KMS key of a bucket's default encryption, None when it has none of its own."""
    from moto.s3.models import s3_backends

    found = s3_backends[ACCOUNT]["aws"].buckets.get(bucket)
    rule = (found.encryption or {}).get("Rule") if found else None
    default = (rule or {}).get("ApplyServerSideEncryptionByDefault", {})
    key: str | None = default.get("KMSMasterKeyID")
    return key


def role_documents(arn: str) -> list[dict[str, Any]]:
    """The inline policy documents of a role."""
    from moto.iam.models import iam_backends

    role = iam_backends[ACCOUNT]["aws"].get_role_by_arn(arn)
    return [json.loads(text) for text in role.policies.values()]


def unused_grants(documents: Iterable[dict[str, Any]], calls: Iterable[Call]) -> list[str]:
    """Actions that the documents allow and none of the calls needed, sorted."""
    needed = {need.action for call in calls for need in call.needs} | WRITTEN_BY_LAMBDA
    granted = {
        action
        for document in documents
        for statement in _listed(document["Statement"])
        if statement["Effect"] == "Allow"
        for action in _listed(statement["Action"])
    }
    return sorted(it for it in granted if not any(_matches(it, used) for used in needed))


@dataclass(frozen=True)
class Rights:
    """How a function's documents fit what it did: `denied` lacked, `unused` allowed too much."""

    denied: tuple[str, ...]
    unused: tuple[str, ...]


def compare_rights(role: str, calls: Iterable[Call]) -> Rights:
    """Compare the documents of a role with every call that was made with it."""
    made = list(calls)
    denied = sorted({it.denied for it in made if it.denied})
    return Rights(tuple(denied), tuple(unused_grants(role_documents(role), made)))
