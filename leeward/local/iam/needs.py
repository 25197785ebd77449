"""Which rights a call needs: by botocore's name of it, and its parameters."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from leeward.local.iam.arns import resource_of
from leeward.local.iam.need import ACCOUNT, Facts, Need
from leeward.local.iam.servers import ABOUT_SERVERS, needs_of_servers

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
# Services without regions are called, for a condition, in this one.
# Source: IAM user guide, "AWS global condition context keys", aws:RequestedRegion.
GLOBAL, GLOBAL_IS_CALLED_IN = "aws-global", "us-east-1"
# Every bucket of the local cloud is the account's own.
OF_BUCKETS: Facts = (("s3:ResourceAccount", ACCOUNT),)
# Of what writes an object: the header of a conditional write, and whether the object is there after
# it. Source: S3 User Guide, "Enforce conditional writes on Amazon S3 buckets".
IF_NONE_MATCH, CREATION = "s3:if-none-match", "s3:ObjectCreationOperation"
WRITES = {
    "s3:PutObject": "true",
    "s3:CopyObject": "true",
    "s3:CompleteMultipartUpload": "true",
    "s3:CreateMultipartUpload": "false",
    "s3:UploadPart": "false",
    "s3:UploadPartCopy": "false",
}
# Of StartBuild: what is there when the call names something in the project's stead.
OVERRIDES = {
    "buildspecOverride": "codebuild:source.buildspec",
    "imageOverride": "codebuild:environment.image",
    "secondarySourcesOverride": "codebuild:secondarySources",
    "serviceRoleOverride": "codebuild:serviceRole",
    "sourceLocationOverride": "codebuild:source.location",
}
# Condition key of an action, and the parameter that its value comes from.
FACTS = {
    "cloudwatch:PutMetricData": ("cloudwatch:namespace", "Namespace"),
    "s3:CreateJob": ("s3:RequestJobOperation", "JobOperation"),
}


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
        region: the one that is called.
        bucket_key: ARN of the KMS key by which the call's bucket encrypts when not told otherwise.
        source_key: the same of the bucket that a copy reads.
    """
    region = GLOBAL_IS_CALLED_IN if region == GLOBAL else region
    if (service, operation) in ABOUT_SERVERS:
        needs = needs_of_servers(service, operation, parameters, region)
    else:
        needs = _needs_of(service, operation, parameters, region)
    if copied := parameters.get("CopySource"):
        needs += _needs_of_source(copied, source_key)
    key = parameters.get("SSEKMSKeyId") or bucket_key
    if service == "s3" and key and parameters.get("ServerSideEncryption") != "AES256":
        needs += [Need(it, key) for it in KEY_ACTIONS.get(operation, ())]
    called = ("aws:RequestedRegion", region)
    return [replace(it, facts=(called, *it.facts)) for it in needs]


def _needs_of(service: str, operation: str, parameters: dict[str, str], region: str) -> list[Need]:
    name = f"{PREFIXES.get(service, service)}:{operation}"
    actions = list(ACTIONS.get(name, [name]))
    if parameters.get("VersionId"):
        actions = [VERSIONED.get(action, action) for action in actions]
    if "ObjectLockRetainUntilDate" in parameters:
        actions.append("s3:PutObjectRetention")
    facts = _facts_of(name, parameters, region)
    needs = [Need(it, resource_of(service, it, parameters, region), facts) for it in actions]
    if name == "s3:CreateJob":
        lent = ("iam:PassedToService", "batchoperations.s3.amazonaws.com")
        needs.append(Need("iam:PassRole", parameters["RoleArn"], (lent,)))
    return needs


def _facts_of(name: str, parameters: dict[str, str], region: str) -> Facts:
    if name in FACTS:
        key, parameter = FACTS[name]
        return ((key, parameters.get(parameter, "")),)
    if name.startswith("s3:"):
        return OF_BUCKETS + facts_of_write(name, parameters.get("IfNoneMatch", ""))
    if name == "codebuild:StartBuild":
        return tuple((key, "given") for it, key in OVERRIDES.items() if it in parameters)
    if name == "route53:ChangeResourceRecordSets":
        return _of_records(json.loads(parameters["Changes"]))
    if name.startswith("dynamodb:") and parameters.get("LeadingKey"):
        return (("dynamodb:LeadingKeys", parameters["LeadingKey"]),)
    if name.startswith("ecs:") and parameters.get("cluster"):
        cluster = parameters["cluster"]
        whole = f"arn:aws:ecs:{region}:{ACCOUNT}:cluster/{cluster}"
        return (("ecs:cluster", cluster if cluster.startswith("arn:") else whole),)
    return ()


def facts_of_write(name: str, if_none_match: str) -> Facts:
    """Of a call of S3's; nothing of one that writes no object. if_none_match: "" without it."""
    if name not in WRITES:
        return ()
    conditional = ((IF_NONE_MATCH, if_none_match),) if if_none_match else ()
    return ((CREATION, WRITES[name]), *conditional)


def _of_records(changes: list[dict[str, Any]]) -> Facts:
    """Names without their last dot, in small letters, a star as its octal code.

    Source: Route 53 developer guide, "Using IAM policy conditions for fine-grained access control".
    """
    prefix = "route53:ChangeResourceRecordSets"
    found = []
    for change in changes:
        record = change["ResourceRecordSet"]
        name = record["Name"].rstrip(".").lower().replace("*", "\\052")
        found.append((f"{prefix}Actions", change["Action"]))
        found.append((f"{prefix}NormalizedRecordNames", name))
        found.append((f"{prefix}RecordTypes", record["Type"]))
    return tuple(found)


def _needs_of_source(copied: str, key: str | None) -> list[Need]:
    """Of a copy's source, "bucket/key" or "bucket/key?versionId=..."."""
    path, _, version = copied.lstrip("/").partition("?versionId=")
    action = "s3:GetObjectVersion" if version else "s3:GetObject"
    read = Need(action, f"arn:aws:s3:::{path}", OF_BUCKETS)
    return [read, Need("kms:Decrypt", key)] if key else [read]
