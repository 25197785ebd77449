"""Deploys a package into the local cloud, resource by resource through AWS's own APIs.

The template is the one that goes to AWS (after the SAM transform). A resource type, a function or
a property that is not known here is an error: what was skipped in silence would be missed in AWS.
moto's own CloudFormation is not used; it ignores half of these resources.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from chalicelib.errors import BadInput
from leeward.local.cloud import PRIMARY_REGION, STANDBY_REGION, LocalCloud
from leeward.local.iam import ACCOUNT
from leeward.local.schedules import next_due

if TYPE_CHECKING:
    from leeward.packaging.package import Package

Properties = dict[str, Any]
STACK = "leeward"
STANDBY_STACK = "leeward-standby"
# Tasks run on this machine, in no network of their own.
TASK_NETWORK = {"TaskSubnets": ["subnet-local"], "TaskSecurityGroups": ["sg-local"]}
ONLY_WITHOUT_TLS = {"Bool": {"aws:SecureTransport": "false"}}


@dataclass(frozen=True)
class Made:
    """A resource that exists: what Ref and Fn::GetAtt give for it."""

    ref: str
    attributes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Deployed:
    """What stands after a deployment: physical names by logical id, and the outputs."""

    region: str
    names: dict[str, str]
    outputs: dict[str, Any]
    standby: Deployed | None = None


def deploy(
    cloud: LocalCloud,
    package: Package,
    *,
    region: str = PRIMARY_REGION,
    standby: bool = False,
    names: bool = False,
) -> Deployed:
    """Upload the zip and make every resource of the template.

    Args:
        standby: the stack of the standby region too; without, only its key, which copies need.
        names: without that stack, what moves names all the same, the names, and the status page.
    Raises:
        BadInput: code "unknown-resource" for a type, property or function not known here.
    """
    from leeward.local.names import deploy_names, make_switches
    from leeward.local.status import make_page
    from leeward.packaging.application import CODE_BUCKET, CODE_KEY

    storage, code = cloud.client("s3", region), package.zip.read_bytes()
    digest = base64.b64encode(hashlib.sha256(code).digest()).decode()
    threading.Thread(target=cloud.runner.unpack, args=(digest, code), daemon=True).start()
    create_bucket(storage, CODE_BUCKET, region)
    storage.put_object(Bucket=CODE_BUCKET, Key=CODE_KEY, Body=code)
    stack = Stack(cloud, json.loads(package.expanded.read_text()), region)
    deployed = stack.apply()
    cloud.note(deployed={"region": region, **deployed.outputs})
    if package.names and not package.standby_expanded:
        deploy_names(cloud, package.names, region, deployed.outputs)
    if package.standby_expanded:
        template = json.loads(package.standby_expanded.read_text())
        other = Stack(cloud, template, STANDBY_REGION, deployed.outputs, stack_name=STANDBY_STACK)
        if not standby:
            other.make("EnvelopeKeyReplica")
            if names:
                make_page(stack, other)
            if names and package.names:
                deploy_names(cloud, package.names, STANDBY_REGION, make_switches(other))
            return deployed
        made = other.apply()
        if package.names:
            deploy_names(cloud, package.names, STANDBY_REGION, made.outputs)
        return replace(deployed, standby=made)
    return deployed


class Stack:
    """Makes the resources of one template, each after those that it refers to."""

    def __init__(
        self,
        cloud: LocalCloud,
        template: dict[str, Any],
        region: str,
        given: dict[str, Any] | None = None,
        *,
        stack_name: str = STACK,
    ) -> None:
        """`given`: values of parameters, before their defaults."""
        self.name = stack_name
        self.region = region
        self._cloud = cloud
        self._template = template
        self._made: dict[str, Made] = {}
        self._apis: dict[str, tuple[str, str]] = {}
        self._values: dict[str, Any] = {
            "AWS::Region": region,
            "AWS::AccountId": ACCOUNT,
            "AWS::Partition": "aws",
            "AWS::StackName": stack_name,
            "AWS::URLSuffix": "amazonaws.com",
        }
        for name, parameter in template.get("Parameters", {}).items():
            self._values[name] = (TASK_NETWORK | (given or {})).get(name) or _default(parameter)

    def apply(self) -> Deployed:
        for logical in self._template["Resources"]:
            self.make(logical)
        outputs = self._template.get("Outputs", {})
        return Deployed(
            region=self.region,
            names={logical: made.ref for logical, made in self._made.items()},
            outputs={name: self.resolve(it["Value"]) for name, it in outputs.items()},
        )

    def logicals(self, *kinds: str) -> list[str]:
        """The logical ids of the resources of these types."""
        found = self._template["Resources"].items()
        return [name for name, it in found if it["Type"] in kinds]

    def has(self, logical: str) -> bool:
        return logical in self._template["Resources"]

    def take_over(self, logical: str, other: Stack) -> None:
        """Make a resource of the other stack's template as this one's own."""
        self._template["Resources"][logical] = other._template["Resources"][logical]
        self.make(logical)

    def client(self, service: str) -> Any:
        return self._cloud.client(service, self.region)

    def serve_api(self, logical: str, body: Properties) -> str:
        """Serve a REST API as its one stage, which names the first part of its paths."""
        stages = (self._template["Resources"][it] for it in self.logicals("AWS::ApiGateway::Stage"))
        [stage] = [
            it["Properties"]["StageName"]
            for it in stages
            if it["Properties"]["RestApiId"] == {"Ref": logical}
        ]
        api = f"{self.name}-{logical}"
        self._apis[api] = (stage, self._cloud.serve_api(api, stage, body))
        return api

    def client_in(self, service: str, region: str) -> Any:
        return self._cloud.client(service, region)

    def make(self, logical: str) -> Made:
        """The resource, made now when it does not exist yet."""
        if logical not in self._made:
            resource = self._template["Resources"][logical]
            kind = resource["Type"]
            if kind not in KINDS:
                raise _unknown(f"resource type {kind} of {logical}")
            properties = self.resolve(resource.get("Properties", {}))
            self._made[logical] = KINDS[kind](self, logical, properties)
        return self._made[logical]

    def resolve(self, value: Any) -> Any:
        """The value with every intrinsic function in it replaced by its result."""
        if isinstance(value, list):
            return [self.resolve(item) for item in value]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            name, argument = next(iter(value.items()))
            if name == "Ref" or name.startswith("Fn::"):
                return self._call(name, argument)
        return {key: self.resolve(item) for key, item in value.items()}

    def _call(self, name: str, argument: Any) -> Any:
        if name == "Ref":
            return self._ref(argument)
        if name == "Fn::GetAtt":
            return self._attribute(*argument)
        if name == "Fn::Sub" and isinstance(argument, str):
            text = re.sub(r"\$\{([\w:.]+)\}", lambda it: self._named(it[1]), argument)
            return self._on_loopback(text)
        if name == "Fn::Sub":
            text, given = argument
            for key, value in given.items():
                text = text.replace(f"${{{key}}}", str(self.resolve(value)))
            return self._call(name, text)
        if name == "Fn::Join":
            between, parts = argument
            return between.join(self.resolve(parts))
        raise _unknown(f"function {name}")

    def _on_loopback(self, text: str) -> str:
        """An API's address in AWS as the one that serves it here."""
        for api, (stage, address) in self._apis.items():
            text = text.replace(
                f"https://{api}.execute-api.{self.region}.amazonaws.com/{stage}/", address
            )
        return text

    def _named(self, name: str) -> str:
        logical, _, attribute = name.partition(".")
        return str(self._attribute(logical, attribute) if attribute else self._ref(name))

    def _ref(self, name: str) -> Any:
        return self._values[name] if name in self._values else self.make(name).ref

    def _attribute(self, logical: str, attribute: str) -> str:
        made = self.make(logical)
        if attribute not in made.attributes:
            raise _unknown(f"attribute {attribute} of {logical}")
        return made.attributes[attribute]


def _default(parameter: dict[str, str]) -> Any:
    default = parameter["Default"]
    return default.split(",") if parameter["Type"] == "CommaDelimitedList" else default


def _unknown(what: str) -> BadInput:
    return BadInput(
        f"the local cloud does not know the {what}",
        hint="Teach it to leeward/local/deploy.py, or do without it in the template.",
        code="unknown-resource",
    )


def _only(properties: Properties, *known: str) -> None:
    if extra := sorted(set(properties) - set(known)):
        raise _unknown(f"property {', '.join(extra)}")


def make_role(stack: Stack, logical: str, properties: Properties) -> Made:
    _only(properties, "AssumeRolePolicyDocument", "Policies")
    name = f"{stack.name}-{logical}"
    trust = json.dumps(properties["AssumeRolePolicyDocument"])
    client = stack.client("iam")
    role = client.create_role(RoleName=name, AssumeRolePolicyDocument=trust)["Role"]
    for policy in properties.get("Policies", []):
        text = json.dumps(policy["PolicyDocument"])
        client.put_role_policy(RoleName=name, PolicyName=policy["PolicyName"], PolicyDocument=text)
    return Made(name, {"Arn": role["Arn"]})


def make_log_group(stack: Stack, _logical: str, properties: Properties) -> Made:
    _only(properties, "LogGroupName", "RetentionInDays")
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
        _only(target, "Id", "Arn", "Input")
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
        raise _unknown("alarm on metric math")
    stack.client("cloudwatch").put_metric_alarm(**properties)
    name = properties["AlarmName"]
    return Made(name, {"Arn": f"arn:aws:cloudwatch:{stack.region}:{ACCOUNT}:alarm:{name}"})


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
    _only(properties, "Description", "KeyPolicy", "PendingWindowInDays", "PrimaryKeyArn")
    arn = properties["PrimaryKeyArn"]
    home = stack.client_in("kms", arn.split(":")[3])
    made = home.replicate_key(
        KeyId=arn.partition("/")[2],  # moto knows it by its id alone
        ReplicaRegion=stack.region,
        Policy=json.dumps(properties["KeyPolicy"]),
        Description=properties["Description"],
    )["ReplicaKeyMetadata"]
    return Made(made["KeyId"], {"Arn": made["Arn"]})


def create_bucket(client: Any, name: str, region: str, **more: Any) -> None:
    if region != "us-east-1":  # the one region that must not be named
        more["CreateBucketConfiguration"] = {"LocationConstraint": region}
    client.create_bucket(Bucket=name, **more)


def make_bucket(stack: Stack, logical: str, properties: Properties) -> Made:
    _only(properties, *BUCKET_SETTINGS, "BucketName", "ObjectLockEnabled")
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
    _only(value, "EventBridgeConfiguration")
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
    _only(rule, *LIFECYCLE)
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
}


def make_bucket_policy(stack: Stack, logical: str, properties: Properties) -> Made:
    """All statements but the one that demands TLS: this cloud serves plain HTTP on loopback."""
    _only(properties, "Bucket", "PolicyDocument")
    document = properties["PolicyDocument"]
    kept = [it for it in document["Statement"] if it.get("Condition") != ONLY_WITHOUT_TLS]
    if kept:
        text = json.dumps(document | {"Statement": kept})
        stack.client("s3").put_bucket_policy(Bucket=properties["Bucket"], Policy=text)
    return Made(logical)


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
    _only(properties, *known, "DefinitionSubstitutions")
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
    _only(properties, "Body", "Parameters", "EndpointConfiguration")
    return Made(stack.serve_api(logical, properties["Body"]))


def make_api_deployment(_stack: Stack, logical: str, properties: Properties) -> Made:
    _only(properties, "Description", "RestApiId", "StageName")
    return Made(logical)


def make_api_stage(_stack: Stack, _logical: str, properties: Properties) -> Made:
    _only(properties, "DeploymentId", "RestApiId", "StageName")
    return Made(properties["StageName"])


def make_health_check(stack: Stack, logical: str, properties: Properties) -> Made:
    _only(properties, "HealthCheckConfig", "HealthCheckTags")
    client = stack.client("route53")
    made = client.create_health_check(
        CallerReference=f"{stack.name}-{logical}", HealthCheckConfig=properties["HealthCheckConfig"]
    )
    identity = made["HealthCheck"]["Id"]
    client.change_tags_for_resource(
        ResourceType="healthcheck", ResourceId=identity, AddTags=properties["HealthCheckTags"]
    )
    return Made(identity, {"HealthCheckId": identity})


def make_record_set(stack: Stack, logical: str, properties: Properties) -> Made:
    rest = dict(properties)
    client = stack.client("route53")
    zone = rest.pop("HostedZoneId", None) or _zone_named(client, rest.pop("HostedZoneName"))
    rest["TTL"] = int(rest["TTL"])
    rest["ResourceRecords"] = [{"Value": value} for value in rest["ResourceRecords"]]
    changes = [{"Action": "CREATE", "ResourceRecordSet": rest}]
    client.change_resource_record_sets(HostedZoneId=zone, ChangeBatch={"Changes": changes})
    return Made(rest["Name"])


def _zone_named(client: Any, name: str) -> str:
    zones = client.list_hosted_zones_by_name(DNSName=name)["HostedZones"]
    found = [it["Id"].rpartition("/")[2] for it in zones if it["Name"] == name]
    if len(found) != 1:
        raise BadInput(
            f"expected one hosted zone {name}, found {len(found)}",
            hint="create it before the record sets; it is the owner's, not the stack's",
            code="no-hosted-zone",
        )
    return str(found[0])


def make_cluster(stack: Stack, _logical: str, properties: Properties) -> Made:
    _only(properties, "ClusterName")
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
    "AWS::S3::Bucket": make_bucket,
    "AWS::S3::BucketPolicy": make_bucket_policy,
    "AWS::StepFunctions::StateMachine": make_state_machine,
}
