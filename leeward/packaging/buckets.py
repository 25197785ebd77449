"""CloudFormation for the plan's buckets: a replica, the events, the nightly sync, the watch."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from chalicelib.backup.bucket.expire_versions import LEAST_WINDOW
from chalicelib.plan.components import Bucket
from chalicelib.plan.model import Plan
from chalicelib.ports.bucket_rules import VERSIONS_TAG
from leeward.packaging.copies import (
    LAG,
    copy_resources,
    daily,
    reachable_locations,
    remote_locations,
)
from leeward.packaging.parts import (
    CLOUDWATCH_PERIOD_SECONDS,
    Resources,
    alarm,
    alarm_resource,
    on_event,
    schedule,
    sign_alarm,
    silence_alarm,
    title,
)

SYNC_EVERY = timedelta(days=1)
WATCH_EVERY = timedelta(minutes=5)

# alarm -> metric, what it means
SIGNS = {
    "ransomware-signs": ("BucketSigns", "what is written, deleted or set looks like ransomware"),
    "ransomware-suspected": ("BucketSuspicions", "signs of ransomware that a person must judge"),
    "watch-blind": ("BlindSpots", "the watch for ransomware does not see all; no news is no proof"),
    "replication-failing": ("ReplicationFailures", "a change was not brought to the replica"),
    "versions-removed": ("VersionsRemoved", "somebody removed versions of the bucket for good"),
}
# Each sync and each look says how it is, and none of these starts a run.
TOLD_BOTH_WAYS = ("watch-blind", "versions-removed")
SYNC_FAILED = "a sync stopped, or left objects behind; see its log"
EVENTS_MISSED = "the sync brought what events should have brought before"


def replicated(plan: Plan) -> dict[str, Bucket]:
    """The buckets that the plan copies in some way, by component."""
    return {
        name: component
        for name, component in plan.components.items()
        if isinstance(component, Bucket) and component.is_in_step
    }


def replica_resources(plan: Plan) -> Resources:
    """All that keeps the plan's buckets in step and watches them."""
    resources: Resources = {}
    for name, component in replicated(plan).items():
        resources |= _replica(name, component) | copy_resources(plan, name, component)
        resources |= _expiry(plan, name, component)
        if component.retired is not None:
            continue
        resources |= _events(plan, name, component) | _syncs(plan, name, component)
        resources |= _watch(plan, name) | _lag_alarms(plan, name)
        for what, (metric, found) in SIGNS.items():
            holds = what in TOLD_BOTH_WAYS
            resources |= sign_alarm(name, what, metric, found, holds=holds)
    return resources


def replica_globals(plan: Plan) -> dict[str, Any]:
    """What every function is told: {component: its replica's name}, as one JSON text."""
    names = {name: f"${{{_logical(name)}}}" for name in replicated(plan)}
    value: Any = {"Fn::Sub": json.dumps(names)} if names else "{}"
    return {"Function": {"Environment": {"Variables": {"LEEWARD_REPLICA_BUCKETS": value}}}}


def bucket_parameters(plan: Plan) -> dict[str, Any]:
    """The plan's buckets and their objects, for the policies.

    IAM takes no empty list: without a bucket there is a name that no bucket has.
    """
    names = sorted({it.bucket for it in replicated(plan).values()}) or ["leeward-no-bucket"]
    buckets = [f"arn:aws:s3:::{name}" for name in names]
    return {
        "ApplicationBuckets": {"Type": "CommaDelimitedList", "Default": ",".join(buckets)},
        "ApplicationObjects": {
            "Type": "CommaDelimitedList",
            "Default": ",".join(f"{arn}/*" for arn in buckets),
        },
    }


def _logical(component: str) -> str:
    """CloudFormation names the bucket after it, which the policies rely on: "...-replica..."."""
    return f"Replica{title(component)}"


def _replica(component: str, bucket: Bucket) -> Resources:
    logical = _logical(component)
    arn = {"Fn::GetAtt": [logical, "Arn"]}
    only_tls = {
        "Sid": "OnlyOverTls",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [arn, {"Fn::Sub": f"${{{logical}.Arn}}/*"}],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    document = {"Version": "2012-10-17", "Statement": [only_tls]}
    return {
        logical: {
            "Type": "AWS::S3::Bucket",
            "DeletionPolicy": "Retain",
            "UpdateReplacePolicy": "Retain",
            "Properties": _private_and_versioned() | _tags(bucket),
        },
        f"{logical}Policy": {
            "Type": "AWS::S3::BucketPolicy",
            "Properties": {"Bucket": {"Ref": logical}, "PolicyDocument": document},
        },
    }


def _private_and_versioned() -> dict[str, Any]:
    closed = ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets")
    encrypted = {
        "BucketKeyEnabled": True,
        "ServerSideEncryptionByDefault": {
            "SSEAlgorithm": "aws:kms",
            "KMSMasterKeyID": {"Fn::GetAtt": ["DataKey", "Arn"]},
        },
    }
    unfinished = {
        "Id": "unfinished-uploads",
        "Status": "Enabled",
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
    }
    return {
        "VersioningConfiguration": {"Status": "Enabled"},
        "NotificationConfiguration": {"EventBridgeConfiguration": {"EventBridgeEnabled": True}},
        "OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]},
        "PublicAccessBlockConfiguration": dict.fromkeys(closed, True),
        "BucketEncryption": {"ServerSideEncryptionConfiguration": [encrypted]},
        "LifecycleConfiguration": {"Rules": [unfinished]},
    }


def _tags(bucket: Bucket) -> dict[str, Any]:
    """A restore of the replica, which needs neither the plan nor its stack, goes by it."""
    if bucket.retention is None or bucket.retention.versions is None:
        return {}
    kept = max(bucket.retention.versions, LEAST_WINDOW)
    return {"Tags": [{"Key": VERSIONS_TAG, "Value": str(kept.days)}]}


def _events(plan: Plan, component: str, bucket: Bucket) -> Resources:
    """Each change of the application's bucket, which must send its events to EventBridge; once,
    however many components are that bucket: `replicate` serves them all."""
    shared = (it for it, one in replicated(plan).items() if one.bucket == bucket.bucket)
    if component != next(it for it in shared if it in plan.live):
        return {}
    pattern = {
        "source": ["aws.s3"],
        "detail-type": ["Object Created", "Object Deleted"],
        "detail": {"bucket": {"name": [bucket.bucket]}},
    }
    return on_event(f"Changed{title(component)}", "replicate", pattern)


def _syncs(plan: Plan, name: str, component: Bucket) -> Resources:
    """The one in AWS has an inventory point a night; other clouds are made equal as often.

    Each has alarms of its own: the good sync of one location says nothing of another.
    """
    resources: Resources = {}
    remote = remote_locations(plan, component)
    for location in reachable_locations(plan, component):
        what = f"sync-{location}" if location in remote else "sync"
        metric = f"SyncFailures.{location}"
        resources |= sign_alarm(name, f"{what}-failing", metric, SYNC_FAILED, holds=True)
        if location not in remote or location in _replicated_to(component):
            missed = "events-missed" + (f"-{location}" if location in remote else "")
            metric = f"MissedEvents.{location}"
            resources |= sign_alarm(name, missed, metric, EVENTS_MISSED, holds=True)
        body = {"component": name, "location": location}
        resources |= schedule(plan, name, what, "sync", "rate(1 day)", body)
        missing = f"{location} was not made equal to the bucket"
        resources |= silence_alarm(
            name, f"{what}-silent", f"Synced.{location}", SYNC_EVERY, missing
        )
    return resources


def _replicated_to(component: Bucket) -> set[str]:
    """Where events bring each change at once, beside the replica in AWS."""
    return {to for backup in component.backups if backup.kind == "replication" for to in backup.to}


def _expiry(plan: Plan, name: str, component: Bucket) -> Resources:
    """No lifecycle rule of S3's: it counts days, and knows of no inventory."""
    if component.retention is None or component.retention.versions is None:
        return {}
    kept = "versions that the plan no longer keeps were not removed from the replica"
    return daily(plan, name, "expire_versions", "VersionsExpired", kept)


def _watch(plan: Plan, name: str) -> Resources:
    body, what = {"component": name}, "watch-bucket"
    made = schedule(plan, name, what, "watch_bucket", "rate(5 minutes)", body)
    blind = "nobody looks for signs of ransomware"
    return made | silence_alarm(name, f"{what}-silent", "BucketWatched", WATCH_EVERY, blind)


def _lag_alarms(plan: Plan, name: str) -> Resources:
    """What the plan's own thresholds say of replication lag."""
    resources: Resources = {}
    for threshold in plan.thresholds:
        if threshold.metric.lower() != LAG or threshold.above is None:
            continue
        what = f"replication-lag-{threshold.level}"
        late = f"a change reached the replica later than the plan allows ({threshold.level})"
        properties = alarm(name, what, "ReplicationLag", CLOUDWATCH_PERIOD_SECONDS) | {
            "AlarmDescription": f"{name}: {late}",
            "Statistic": "Maximum",
            "Threshold": threshold.above.value,
            "ComparisonOperator": "GreaterThanThreshold",
            "TreatMissingData": "notBreaching",
        }
        resources |= alarm_resource(name, what, properties)
    return resources
