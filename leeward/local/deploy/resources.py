"""Every type of resource that a template may have, and how each is made through AWS's own API.

A property that is not known here is an error: what was skipped in silence would be missed in AWS.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from leeward.local.deploy.buckets import make_bucket, make_bucket_policy
from leeward.local.deploy.made import STACK, Made, Properties, only, unknown
from leeward.local.deploy.zones import make_health_check, make_record_set
from leeward.local.iam import ACCOUNT
from leeward.local.schedules import next_due

if TYPE_CHECKING:
    from leeward.local.deploy.stack import Stack


def make_role(stack: Stack, logical: str, properties: Properties) -> Made:
    only(properties, "AssumeRolePolicyDocument", "Policies")
    name = f"{stack.name}-{logical}"
    trust = json.dumps(properties["AssumeRolePolicyDocument"])
    client = stack.client("iam")
    role = client.create_role(RoleName=name, AssumeRolePolicyDocument=trust)["Role"]
    for policy in properties.get("Policies", []):
        text = json.dumps(policy["PolicyDocument"])
        client.put_role_policy(RoleName=name, PolicyName=policy["PolicyName"], PolicyDocument=text)
    return Made(name, {"Arn": role["Arn"]})


def make_log_group(stack: Stack, _logical: str, properties: Properties) -> Made:
    only(properties, "LogGroupName", "RetentionInDays")
    name, client = properties["LogGroupName"], stack.client("logs")
    client.create_log_group(logGroupName=name)
    client.put_retention_policy(logGroupName=name, retentionInDays=properties["RetentionInDays"])
    return Made(name)


def make_function(stack: Stack, _logical: str, properties: Properties) -> Made:
    tags = {it["Key"]: it["Value"] for it in properties.get("Tags", [])}
    made = stack.client("lambda").create_function(**(properties | {"Tags": tags}))
    return Made(made["FunctionName"], {"Arn": made["FunctionArn"]})


def make_permission(stack: Stack, logical: str, properties: Properties) -> Made:
    stack.client("lambda").add_permission(StatementId=logical, **properties)
    return Made(logical)


def make_rule(stack: Stack, logical: str, properties: Properties) -> Made:
    rest = dict(properties)
    name = rest.pop("Name", f"{stack.name}-{logical}")
    targets = rest.pop("Targets")
    for target in targets:
        only(target, "Id", "Arn", "Input")
    if "EventPattern" in rest:
        rest["EventPattern"] = json.dumps(rest["EventPattern"])
    if "ScheduleExpression" in rest:
        next_due(rest["ScheduleExpression"], datetime.now(UTC))  # one that is none fails here
    client = stack.client("events")
    arn = client.put_rule(Name=name, **rest)["RuleArn"]
    client.put_targets(Rule=name, Targets=targets)
    return Made(name, {"Arn": arn})


def make_alarm(stack: Stack, _logical: str, properties: Properties) -> Made:
    if "MetricName" not in properties:
        raise unknown("alarm on metric math")
    stack.client("cloudwatch").put_metric_alarm(**properties)
    name = properties["AlarmName"]
    return Made(name, {"Arn": f"arn:aws:cloudwatch:{stack.region}:{ACCOUNT}:alarm:{name}"})


def make_topic(stack: Stack, logical: str, properties: Properties) -> Made:
    only(properties, "Subscription")
    client = stack.client("sns")
    arn = client.create_topic(Name=f"{STACK}-{logical}")["TopicArn"]
    for it in properties["Subscription"]:
        client.subscribe(TopicArn=arn, Protocol=it["Protocol"], Endpoint=it["Endpoint"])
    return Made(arn, {"TopicArn": arn})


def make_key(stack: Stack, _logical: str, properties: Properties) -> Made:
    rest = dict(properties)
    rotates = rest.pop("EnableKeyRotation", False)
    rest.pop("PendingWindowInDays", None)  # how long a deletion can be taken back
    client = stack.client("kms")
    key = client.create_key(**(rest | {"Policy": json.dumps(rest.pop("KeyPolicy"))}))
    identity = key["KeyMetadata"]["KeyId"]
    if rotates:
        client.enable_key_rotation(KeyId=identity)
    return Made(identity, {"Arn": key["KeyMetadata"]["Arn"]})


def make_replica_key(stack: Stack, _logical: str, properties: Properties) -> Made:
    only(properties, "Description", "KeyPolicy", "PendingWindowInDays", "PrimaryKeyArn")
    arn = properties["PrimaryKeyArn"]
    home = stack.client_in("kms", arn.split(":")[3])
    made = home.replicate_key(
        KeyId=arn.partition("/")[2],  # moto knows it by its id alone
        ReplicaRegion=stack.region,
        Policy=json.dumps(properties["KeyPolicy"]),
        Description=properties["Description"],
    )["ReplicaKeyMetadata"]
    return Made(made["KeyId"], {"Arn": made["Arn"]})


def make_table(stack: Stack, logical: str, properties: Properties) -> Made:
    rest = dict(properties)
    recovery = rest.pop("PointInTimeRecoverySpecification", None)
    expiry = rest.pop("TimeToLiveSpecification", None)
    rest["SSESpecification"] = {"Enabled": rest["SSESpecification"]["SSEEnabled"]}
    name, client = f"{STACK}-{logical}", stack.client("dynamodb")
    table = client.create_table(TableName=name, **rest)["TableDescription"]
    if recovery:
        client.update_continuous_backups(TableName=name, PointInTimeRecoverySpecification=recovery)
    if expiry:
        client.update_time_to_live(TableName=name, TimeToLiveSpecification=expiry)
    return Made(name, {"Arn": table["TableArn"]})


def make_state_machine(stack: Stack, _logical: str, properties: Properties) -> Made:
    known = ("StateMachineName", "StateMachineType", "DefinitionString", "RoleArn")
    only(properties, *known, "DefinitionSubstitutions")
    definition = properties["DefinitionString"]
    for name, value in properties.get("DefinitionSubstitutions", {}).items():
        definition = definition.replace(f"${{{name}}}", value)
    made = stack.client("stepfunctions").create_state_machine(
        name=properties["StateMachineName"],
        definition=definition,
        roleArn=properties["RoleArn"],
        type=properties["StateMachineType"],
    )
    arn = made["stateMachineArn"]
    return Made(arn, {"Arn": arn, "Name": properties["StateMachineName"]})


def make_rest_api(stack: Stack, logical: str, properties: Properties) -> Made:
    """Served at once: a function may be told its address before its stage is made."""
    only(properties, "Body", "Parameters", "EndpointConfiguration")
    return Made(stack.serve_api(logical, properties["Body"]))


def make_api_deployment(_stack: Stack, logical: str, properties: Properties) -> Made:
    only(properties, "Description", "RestApiId", "StageName")
    return Made(logical)


def make_api_stage(_stack: Stack, _logical: str, properties: Properties) -> Made:
    only(properties, "DeploymentId", "RestApiId", "StageName")
    return Made(properties["StageName"])


def make_cluster(stack: Stack, _logical: str, properties: Properties) -> Made:
    only(properties, "ClusterName")
    made = stack.client("ecs").create_cluster(clusterName=properties["ClusterName"])["cluster"]
    return Made(made["clusterName"], {"Arn": made["clusterArn"]})


def make_task_definition(stack: Stack, _logical: str, properties: Properties) -> Made:
    made = stack.client("ecs").register_task_definition(**_api_names(properties))
    return Made(made["taskDefinition"]["taskDefinitionArn"])


def _api_names(value: Any) -> Any:
    """As ECS names what begins with a capital in CloudFormation; options stay as they are."""
    if isinstance(value, list):
        return [_api_names(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        name[0].lower() + name[1:]: it if name == "Options" else _api_names(it)
        for name, it in value.items()
    }


KINDS: dict[str, Callable[[Stack, str, Properties], Made]] = {
    "AWS::ApiGateway::Deployment": make_api_deployment,
    "AWS::ApiGateway::RestApi": make_rest_api,
    "AWS::ApiGateway::Stage": make_api_stage,
    "AWS::CloudWatch::Alarm": make_alarm,
    "AWS::DynamoDB::Table": make_table,
    "AWS::ECS::Cluster": make_cluster,
    "AWS::ECS::TaskDefinition": make_task_definition,
    "AWS::Events::Rule": make_rule,
    "AWS::IAM::Role": make_role,
    "AWS::KMS::Key": make_key,
    "AWS::KMS::ReplicaKey": make_replica_key,
    "AWS::Lambda::Function": make_function,
    "AWS::Lambda::Permission": make_permission,
    "AWS::Logs::LogGroup": make_log_group,
    "AWS::Route53::HealthCheck": make_health_check,
    "AWS::Route53::RecordSet": make_record_set,
    "AWS::SNS::Topic": make_topic,
    "AWS::S3::Bucket": make_bucket,
    "AWS::S3::BucketPolicy": make_bucket_policy,
    "AWS::StepFunctions::StateMachine": make_state_machine,
}
