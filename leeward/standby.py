"""The stack of the standby region: what must be there before the primary region is lost.

It holds the replica of the key that opens copies outside AWS. Deployed after the primary stack,
whose output `EnvelopeKey` it takes as a parameter.
"""

from __future__ import annotations

from typing import Any

from chalicelib.plan.model import Plan

RIGHTS_ARE_GIVEN_BY_IAM = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Sid": "RightsAreGivenByIam",
            "Effect": "Allow",
            "Principal": {"AWS": {"Fn::Sub": "arn:${AWS::Partition}:iam::${AWS::AccountId}:root"}},
            "Action": "kms:*",
            "Resource": "*",
        }
    ],
}


def region_of(plan: Plan, role: str) -> str | None:
    """The AWS region of the plan's "primary" or "standby" site; None when that is not in AWS."""
    for site in plan.sites.values():
        if site.role == role and site.provider == "aws":
            return site.region
    return None


def standby_template() -> dict[str, Any]:
    """CloudFormation, for any plan with a standby region in AWS."""
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "Leeward: the standby region",
        "Parameters": {
            "EnvelopeKey": {
                "Type": "String",
                "Description": "ARN of the primary stack's EnvelopeKey",
            }
        },
        "Resources": {
            "EnvelopeKeyReplica": {
                "Type": "AWS::KMS::ReplicaKey",
                "DeletionPolicy": "Retain",
                "UpdateReplacePolicy": "Retain",
                "Properties": {
                    "Description": "Leeward: data keys of copies outside AWS",
                    "PrimaryKeyArn": {"Ref": "EnvelopeKey"},
                    "KeyPolicy": RIGHTS_ARE_GIVEN_BY_IAM,
                    "PendingWindowInDays": 30,
                },
            }
        },
    }
