"""Buckets as a template describes them, through S3's own API, which names much otherwise."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from leeward.local.deploy.made import STACK, Made, Properties, only

if TYPE_CHECKING:
    from leeward.local.deploy.stack import Stack

ONLY_WITHOUT_TLS = {"Bool": {"aws:SecureTransport": "false"}}


def create_bucket(client: Any, name: str, region: str, **more: Any) -> None:
    if region != "us-east-1":  # the one region that must not be named
        more["CreateBucketConfiguration"] = {"LocationConstraint": region}
    client.create_bucket(Bucket=name, **more)


def make_bucket(stack: Stack, logical: str, properties: Properties) -> Made:
    only(properties, *BUCKET_SETTINGS, "BucketName", "ObjectLockEnabled")
    name = properties.get("BucketName", f"{STACK}-{logical.lower()}-{stack.region}")
    client = stack.client("s3")
    locked = bool(properties.get("ObjectLockEnabled"))
    create_bucket(client, name, stack.region, ObjectLockEnabledForBucket=locked)
    for setting, put in BUCKET_SETTINGS.items():
        if setting in properties:
            put(client, name, properties[setting])
    domain = f"{name}.s3.{stack.region}.amazonaws.com"
    return Made(name, {"Arn": f"arn:aws:s3:::{name}", "RegionalDomainName": domain})


def _put_encryption(client: Any, bucket: str, value: Properties) -> None:
    rules = [
        {
            "ApplyServerSideEncryptionByDefault": rule["ServerSideEncryptionByDefault"],
            "BucketKeyEnabled": rule["BucketKeyEnabled"],
        }
        for rule in value["ServerSideEncryptionConfiguration"]
    ]
    client.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": rules})


def _put_notification(client: Any, bucket: str, value: Properties) -> None:
    """CloudFormation says whether EventBridge is told; the API has a key that is there or not."""
    only(value, "EventBridgeConfiguration")
    told = value["EventBridgeConfiguration"]["EventBridgeEnabled"]
    configuration = {"EventBridgeConfiguration": {}} if told else {}
    client.put_bucket_notification_configuration(
        Bucket=bucket, NotificationConfiguration=configuration
    )


def _put_lifecycle(client: Any, bucket: str, value: Properties) -> None:
    rules = [_lifecycle_rule(dict(rule)) for rule in value["Rules"]]
    client.put_bucket_lifecycle_configuration(
        Bucket=bucket, LifecycleConfiguration={"Rules": rules}
    )


def _lifecycle_rule(rule: Properties) -> Properties:
    """CloudFormation says at the rule itself what the API says below Expiration and Filter.

    What S3's API alone knows is refused as CloudFormation would refuse it.
    """
    only(rule, *LIFECYCLE)
    made = {"ID": rule.pop("Id"), "Filter": {"Prefix": rule.pop("Prefix", "")}}
    if "ExpirationInDays" in rule:
        made["Expiration"] = {"Days": rule.pop("ExpirationInDays")}
    if rule.pop("ExpiredObjectDeleteMarker", False):
        made["Expiration"] = {"ExpiredObjectDeleteMarker": True}
    return made | rule


# "AWS::S3::Bucket Rule", CloudFormation's template reference: what the templates here use of it.
LIFECYCLE = (
    "Id",
    "Status",
    "Prefix",
    "ExpirationInDays",
    "ExpiredObjectDeleteMarker",
    "NoncurrentVersionExpiration",
    "AbortIncompleteMultipartUpload",
)

BUCKET_SETTINGS: dict[str, Callable[[Any, str, Properties], None]] = {
    "VersioningConfiguration": lambda client, bucket, value: client.put_bucket_versioning(
        Bucket=bucket, VersioningConfiguration=value
    ),
    "PublicAccessBlockConfiguration": lambda client, bucket, value: client.put_public_access_block(
        Bucket=bucket, PublicAccessBlockConfiguration=value
    ),
    "OwnershipControls": lambda client, bucket, value: client.put_bucket_ownership_controls(
        Bucket=bucket, OwnershipControls=value
    ),
    "BucketEncryption": _put_encryption,
    "LifecycleConfiguration": _put_lifecycle,
    "NotificationConfiguration": _put_notification,
    "ObjectLockConfiguration": lambda client, bucket, value: client.put_object_lock_configuration(
        Bucket=bucket, ObjectLockConfiguration=value
    ),
    "Tags": lambda client, bucket, value: client.put_bucket_tagging(
        Bucket=bucket, Tagging={"TagSet": value}
    ),
}


def make_bucket_policy(stack: Stack, logical: str, properties: Properties) -> Made:
    """All statements but the one that demands TLS: this cloud serves plain HTTP on loopback."""
    only(properties, "Bucket", "PolicyDocument")
    document = properties["PolicyDocument"]
    kept = [it for it in document["Statement"] if it.get("Condition") != ONLY_WITHOUT_TLS]
    if kept:
        text = json.dumps(document | {"Statement": kept})
        stack.client("s3").put_bucket_policy(Bucket=properties["Bucket"], Policy=text)
    return Made(logical)
