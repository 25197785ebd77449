"""Template parts of the tasks on Fargate: what does not fit into a Lambda is done there.

The container's image is Lambda's own for Python; its command fetches the zip that the Lambdas run
and compares its SHA-256 before anything of it is imported. A task has the rights of the steps' own
Lambda, from the same document, without those to start tasks, and with those to answer for a step.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from chalicelib.adapters.fargate import CONTAINER
from leeward.packaging.parts import Resources

ROOT = Path(__file__).parents[2]
# The function whose steps may need a task, and its document in policies/iam/.
FUNCTION = "rebuild"
NAME = f"leeward-primary-{FUNCTION}"
# Statements of that document that a task does not need: the log is written by the execution role.
LAMBDA_ONLY = ("Logs", "StartTasks", "FindTasks", "LendTaskRoles", "AnswerForSteps")
TASK_PARTS = ("TaskCluster", "TaskDefinition", "TaskRole", "TaskExecutionRole", "TaskLogGroup")
IMAGE = f"public.ecr.aws/lambda/python:{sys.version_info[0]}.{sys.version_info[1]}-x86_64"
# Fargate's largest disk; two virtual CPUs as a restore decompresses and hashes at once.
# Source: "Fargate task ephemeral storage" and "Task CPU and memory", Amazon ECS developer guide.
DISK_GIB = 200
CPU, MEMORY_MIB = 2048, 8192
# As long as Fargate waits at most between SIGTERM and SIGKILL.
STOP_SECONDS = 120


def task_parameters(code_bucket: str, code_key: str, code_sha256: str) -> dict[str, Any]:
    """Where tasks run, and where the zip lies. Without a subnet no task is started."""
    listed = {"Type": "CommaDelimitedList", "Default": ""}
    return {
        "TaskSubnets": listed | {"Description": "Subnets for tasks that do not fit into a Lambda"},
        "TaskSecurityGroups": listed | {"Description": "Security groups of those tasks"},
        "TaskAddress": {
            "Type": "String",
            "Default": "DISABLED",
            "AllowedValues": ["DISABLED", "ENABLED"],
            "Description": "Whether tasks have a public address: in a subnet without NAT",
        },
        "TaskImage": {"Type": "String", "Default": IMAGE, "Description": "Or a copy of it"},
        "CodeBucket": {"Type": "String", "Default": code_bucket},
        "CodeKey": {"Type": "String", "Default": code_key},
        "CodeSha256": {"Type": "String", "Default": code_sha256},
    }


def task_resources(variables: dict[str, Any]) -> Resources:
    """variables: of the functions' environment, by name."""
    return {
        "TaskCluster": {"Type": "AWS::ECS::Cluster", "Properties": {"ClusterName": NAME}},
        "TaskLogGroup": {
            "Type": "AWS::Logs::LogGroup",
            "Properties": {"LogGroupName": f"/aws/ecs/{NAME}", "RetentionInDays": 365},
        },
        "TaskRole": _role("does-steps", _rights()),
        "TaskExecutionRole": _role("writes-the-log", [_log_rights()]),
        "TaskDefinition": _definition(variables),
        "Rebuild": {"Properties": {"Environment": {"Variables": _where()}}},
    }


def _where() -> dict[str, Any]:
    """What the function must know to start a task."""
    return {
        "LEEWARD_TASK": NAME,
        "LEEWARD_TASK_SUBNETS": {"Fn::Join": [",", {"Ref": "TaskSubnets"}]},
        "LEEWARD_TASK_SECURITY_GROUPS": {"Fn::Join": [",", {"Ref": "TaskSecurityGroups"}]},
        "LEEWARD_TASK_ADDRESS": {"Ref": "TaskAddress"},
    }


def _definition(variables: dict[str, Any]) -> dict[str, Any]:
    own = {
        "AWS_REGION": {"Ref": "AWS::Region"},
        "AWS_DEFAULT_REGION": {"Ref": "AWS::Region"},
        "LEEWARD_CODE_BUCKET": {"Ref": "CodeBucket"},
        "LEEWARD_CODE_KEY": {"Ref": "CodeKey"},
        "LEEWARD_CODE_SHA256": {"Ref": "CodeSha256"},
    }
    container = {
        "Name": CONTAINER,
        "Image": {"Ref": "TaskImage"},
        "Essential": True,
        "EntryPoint": ["python3", "-c"],
        "Command": [Path(__file__).with_name("task_start.py").read_text()],
        "Environment": [{"Name": name, "Value": it} for name, it in (variables | own).items()],
        "StopTimeout": STOP_SECONDS,
        "LinuxParameters": {"InitProcessEnabled": True},  # it collects what PostgreSQL leaves
        "LogConfiguration": {
            "LogDriver": "awslogs",
            "Options": {
                "awslogs-group": {"Ref": "TaskLogGroup"},
                "awslogs-region": {"Ref": "AWS::Region"},
                "awslogs-stream-prefix": FUNCTION,
            },
        },
    }
    return {
        "Type": "AWS::ECS::TaskDefinition",
        "Properties": {
            "Family": NAME,
            "RequiresCompatibilities": ["FARGATE"],
            "NetworkMode": "awsvpc",
            "Cpu": str(CPU),
            "Memory": str(MEMORY_MIB),
            "EphemeralStorage": {"SizeInGiB": DISK_GIB},
            "RuntimePlatform": {"CpuArchitecture": "X86_64", "OperatingSystemFamily": "LINUX"},
            "TaskRoleArn": {"Fn::GetAtt": ["TaskRole", "Arn"]},
            "ExecutionRoleArn": {"Fn::GetAtt": ["TaskExecutionRole", "Arn"]},
            "ContainerDefinitions": [container],
        },
    }


def _rights() -> list[dict[str, Any]]:
    document = json.loads((ROOT / "policies" / "iam" / f"{FUNCTION}.json").read_text())
    as_the_lambda = [it for it in document["Statement"] if it["Sid"] not in LAMBDA_ONLY]
    answer = {
        "Sid": "AnswerForSteps",
        "Effect": "Allow",
        "Action": ["states:SendTaskFailure", "states:SendTaskHeartbeat", "states:SendTaskSuccess"],
        "Resource": "*",
    }
    code = {
        "Sid": "FetchTheCode",
        "Effect": "Allow",
        "Action": "s3:GetObject",
        "Resource": {"Fn::Sub": "arn:${AWS::Partition}:s3:::${CodeBucket}/${CodeKey}"},
    }
    return [*as_the_lambda, answer, code]


def _log_rights() -> dict[str, Any]:
    return {
        "Sid": "Logs",
        "Effect": "Allow",
        "Action": ["logs:CreateLogStream", "logs:PutLogEvents"],
        "Resource": {
            "Fn::Sub": "arn:${AWS::Partition}:logs:${AWS::Region}:${AWS::AccountId}"
            f":log-group:/aws/ecs/{NAME}:*"
        },
    }


def _role(name: str, statements: list[dict[str, Any]]) -> dict[str, Any]:
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": "ecs-tasks.amazonaws.com"},
                "Action": "sts:AssumeRole",
            }
        ],
    }
    document = {"Version": "2012-10-17", "Statement": statements}
    return {
        "Type": "AWS::IAM::Role",
        "Properties": {
            "AssumeRolePolicyDocument": trust,
            "Policies": [{"PolicyName": name, "PolicyDocument": document}],
        },
    }
