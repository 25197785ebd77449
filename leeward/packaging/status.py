"""CloudFormation of the status page: its bucket, who may read what of it, the clock that keeps it.

`status_resources` belong into the stack of the standby region, and without one in AWS into
Leeward's own. The bucket's name is known before it is made: to the other region's functions.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from chalicelib.incidents.status.render import PUBLIC_KEYS
from chalicelib.plan.model import Plan
from leeward.packaging.parts import Resources, schedule, silence_alarm

STATUS_BUCKET = "leeward-status-${AWS::AccountId}-%s"
SUBJECT = "status-page"
EVERY = timedelta(minutes=1)
UNWRITTEN = "nobody confirms the status page; it says so, and since when"
# A day is looked at for 90 days; what was said is kept for longer than any page shows it.
OBSERVED_DAYS, SAID_DAYS = 100, 400


def status_globals(plan: Plan) -> dict[str, Any]:
    """What every function is told of the page; nothing for a plan without one."""
    if not plan.has_status_page:
        return {}
    region = plan.aws_region("standby")
    variables = {
        "LEEWARD_STATUS_BUCKET": {"Fn::Sub": STATUS_BUCKET % (region or "${AWS::Region}")},
        "LEEWARD_STATUS_REGION": region or {"Ref": "AWS::Region"},
    }
    return {"Function": {"Environment": {"Variables": variables}}}


def status_resources(plan: Plan) -> Resources:
    """Empty for a plan without a status page."""
    if not plan.has_status_page:
        return {}
    resources = _bucket() | _bucket_policy()
    resources |= schedule(plan, SUBJECT, "publish", "publish", "rate(1 minute)", {})
    return resources | silence_alarm(SUBJECT, "publish-silent", "Published", EVERY, UNWRITTEN)


def status_outputs(plan: Plan) -> dict[str, Any]:
    """Of the stack with `status_resources`: where the page is without a name of one's own."""
    if not plan.has_status_page:
        return {}
    address = "https://${StatusBucket.RegionalDomainName}/index.html"
    return {"StatusPage": {"Value": {"Fn::Sub": address}}}


def primary_status_outputs(plan: Plan) -> dict[str, Any]:
    """The same of the primary stack, which has these resources where there is no standby region."""
    return status_outputs(plan) if plan.aws_region("standby") is None else {}


def _bucket() -> Resources:
    """Encrypted by S3's own key, as whoever reads the page may use no other. Without versions: the
    front page is written each minute, and what it is made from stands in the evidence too."""
    default = {"SSEAlgorithm": "AES256"}
    by_s3 = {"ServerSideEncryptionByDefault": default, "BucketKeyEnabled": False}
    kept = {"observed/": OBSERVED_DAYS, "said/": SAID_DAYS, "drills/": SAID_DAYS,
            "drill/": SAID_DAYS, "maintenance/": SAID_DAYS, "incidents/": SAID_DAYS}  # fmt: skip
    rules = [
        {
            "Id": f"end-of-{prefix.strip('/')}",
            "Status": "Enabled",
            "Prefix": prefix,
            "ExpirationInDays": days,
        }
        for prefix, days in kept.items()
    ]
    return {
        "StatusBucket": {
            "Type": "AWS::S3::Bucket",
            "DeletionPolicy": "Retain",
            "UpdateReplacePolicy": "Retain",
            "Properties": {
                "BucketName": {"Fn::Sub": STATUS_BUCKET % "${AWS::Region}"},
                # The policy lets everybody read the pages, which S3 refuses unless both are off.
                "PublicAccessBlockConfiguration": {
                    "BlockPublicAcls": True,
                    "BlockPublicPolicy": False,
                    "IgnorePublicAcls": True,
                    "RestrictPublicBuckets": False,
                },
                "OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]},
                "BucketEncryption": {"ServerSideEncryptionConfiguration": [by_s3]},
                "LifecycleConfiguration": {"Rules": rules},
            },
        }
    }


def _bucket_policy() -> Resources:
    """Readers get the pages, and neither a listing nor what they are made from."""
    pages = {
        "Sid": "EverybodyReadsThePages",
        "Effect": "Allow",
        "Principal": "*",
        "Action": "s3:GetObject",
        "Resource": [{"Fn::Sub": f"${{StatusBucket.Arn}}/{key}"} for key in PUBLIC_KEYS],
    }
    encrypted = {
        "Sid": "OnlyEncrypted",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [
            {"Fn::GetAtt": ["StatusBucket", "Arn"]},
            {"Fn::Sub": "${StatusBucket.Arn}/*"},
        ],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    document = {"Version": "2012-10-17", "Statement": [encrypted, pages]}
    return {
        "StatusBucketPolicy": {
            "Type": "AWS::S3::BucketPolicy",
            "Properties": {"Bucket": {"Ref": "StatusBucket"}, "PolicyDocument": document},
        }
    }
