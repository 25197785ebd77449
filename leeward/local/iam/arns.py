"""The resource that a call is about, as AWS writes it in a document."""

from __future__ import annotations

import re

from leeward.local.iam.need import ACCOUNT

ON_BUCKET = re.compile(
    r"s3:(ListBucket.*|(Get|Put|Delete)Bucket.*|(Get|Put)[A-Z][a-z]+Configuration)"
)


def resource_of(service: str, action: str, parameters: dict[str, str], region: str) -> str:
    """ "*" where AWS knows no resource for the action, or the call names none."""

    def arn(rest: str) -> str:
        return rest if rest.startswith("arn:") else f"arn:aws:{service}:{region}:{ACCOUNT}:{rest}"

    if service == "s3":
        return _of_s3(action, parameters, region)
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
    if service == "route53" and "HostedZoneId" in parameters:
        return f"arn:aws:route53:::hostedzone/{parameters['HostedZoneId']}"
    if service == "route53-recovery-cluster":
        return parameters.get("RoutingControlArn", "*")
    if action == "route53:GetChange":
        return f"arn:aws:route53:::change/{parameters['Id'].rpartition('/')[2]}"
    if service == "elasticloadbalancing" and not action.startswith(f"{service}:Describe"):
        return parameters.get("TargetGroupArn", "*")
    if service == "ses":
        return arn(f"identity/{parameters.get('FromEmailAddress', '')}")
    if service == "sns" and (parameters.get("TopicArn") or parameters.get("TargetArn")):
        return parameters.get("TopicArn") or parameters["TargetArn"]
    if service == "iam":
        return _of_identity(parameters)
    if service == "states":
        return parameters.get("stateMachineArn") or parameters.get("executionArn") or "*"
    return "*"


def _of_s3(action: str, parameters: dict[str, str], region: str) -> str:
    """Of a bucket, an object, or a job of Batch Operations; no job is there before it is made."""
    if action == "s3:CreateJob":
        return "*"
    if action == "s3:DescribeJob":
        return f"arn:aws:s3:{region}:{ACCOUNT}:job/{parameters['JobId']}"
    bucket = f"arn:aws:s3:::{parameters.get('Bucket', '')}"
    return bucket if ON_BUCKET.fullmatch(action) else f"{bucket}/{parameters.get('Key', '')}"


def _of_identity(parameters: dict[str, str]) -> str:
    for name, kind in (("UserName", "user"), ("RoleName", "role")):
        if name in parameters:
            return f"arn:aws:iam::{ACCOUNT}:{kind}/{parameters[name]}"
    return "*"
