"""The roles of a sync of very many objects: of its state machine, and of S3 Batch Operations."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from chalicelib.scenarios.compile import logical_id
from leeward.packaging.parts import Resources


def sync_role(machine: str, functions: Iterable[str]) -> Resources:
    """A Map's children are executions of the same machine, which it starts and follows.

    Args:
        machine: the machines' names, a star for what differs.
        functions: what the machine's states call, by the step's name.

    Source: Step Functions, "IAM policies for using Distributed Map states".
    """
    states = "arn:${AWS::Partition}:states:${AWS::Region}:${AWS::AccountId}"
    return _role(
        "ShardsRole",
        "states.amazonaws.com",
        "sync-shards",
        {
            "Sid": "CallFunctions",
            "Action": "lambda:InvokeFunction",
            "Resource": [{"Fn::GetAtt": [logical_id(it), "Arn"]} for it in functions],
        },
        {
            "Sid": "ReadShards",
            "Action": "s3:GetObject",
            "Resource": [
                {"Fn::Sub": f"${{BackupBucket.Arn}}/*/shards/*/{name}.json"}
                for name in ("map", "parts")
            ],
        },
        {
            "Sid": "Decrypt",
            "Action": "kms:Decrypt",
            "Resource": {"Fn::GetAtt": ["DataKey", "Arn"]},
        },
        {
            "Sid": "StartShards",
            "Action": "states:StartExecution",
            "Resource": {"Fn::Sub": f"{states}:stateMachine:{machine}"},
        },
        {
            "Sid": "FollowShards",
            "Action": ["states:DescribeExecution", "states:StopExecution"],
            "Resource": {"Fn::Sub": f"{states}:execution:{machine}:*"},
        },
    )


def batch_role() -> Resources:
    """What S3 Batch Operations may do: copy objects of the plan's buckets into their replicas.

    Source: S3 User Guide, "Granting permissions for Batch Operations", copy objects.
    """
    resources = _role(
        "BatchRole",
        "batchoperations.s3.amazonaws.com",
        "copy-objects",
        {
            "Sid": "ReadSources",
            "Action": ["s3:GetObject", "s3:GetObjectTagging"],
            "Resource": {"Ref": "ApplicationObjects"},
        },
        {
            "Sid": "WriteReplicas",
            "Action": ["s3:PutObject", "s3:PutObjectTagging"],
            "Resource": {"Fn::Sub": "arn:${AWS::Partition}:s3:::${AWS::StackName}-replica*/*"},
        },
        {
            "Sid": "ReadManifests",
            "Action": "s3:GetObject",
            "Resource": {"Fn::Sub": "${BackupBucket.Arn}/*/shards/*/batch/*"},
        },
        {
            "Sid": "WriteReports",
            "Action": "s3:PutObject",
            "Resource": {"Fn::Sub": "${BackupBucket.Arn}/*/shards/*/report/*"},
        },
        {
            "Sid": "Encrypt",
            "Action": ["kms:Decrypt", "kms:GenerateDataKey"],
            "Resource": {"Fn::GetAtt": ["DataKey", "Arn"]},
        },
    )
    told = {"LEEWARD_BATCH_ROLE": {"Fn::GetAtt": ["BatchRole", "Arn"]}}
    resources["BatchCopy"] = {"Properties": {"Environment": {"Variables": told}}}
    return resources


def _role(logical: str, service: str, name: str, *statements: dict[str, Any]) -> Resources:
    version = "2012-10-17"
    trusted = {
        "Effect": "Allow",
        "Principal": {"Service": service},
        "Action": "sts:AssumeRole",
    }
    allowed = [{"Effect": "Allow"} | statement for statement in statements]
    policy = {
        "PolicyName": name,
        "PolicyDocument": {"Version": version, "Statement": allowed},
    }
    return {
        logical: {
            "Type": "AWS::IAM::Role",
            "Properties": {
                "AssumeRolePolicyDocument": {"Version": version, "Statement": [trusted]},
                "Policies": [policy],
            },
        }
    }
