"""What the documents let functions do to servers: those of the plan, those of their own runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chalicelib.plan.model import Plan
from chalicelib.recover.sites.servers import name_replaced, tags_of
from leeward.local.iam import needs_of
from leeward.plan_file import load_plan
from tests.iam_documents import ACCOUNT, REGION, Document

PLANS = Path(__file__).parents[2] / "policies" / "plans"
INSTANCE = f"arn:aws:ec2:{REGION}:{ACCOUNT}:instance/i-1"
OURS = "artisttech-app"
OF_RUN = tags_of(OURS, "app-server", "run-1")["Name"]
BUT_OURS = ("web", f"{OURS}-2", "")


@pytest.fixture(scope="module")
def plan() -> Plan:
    return load_plan(PLANS / "artist-tech.yaml").plan


@pytest.fixture(scope="module")
def manage(plan: Plan) -> Document:
    return Document(plan, "manage_servers")


@pytest.fixture(scope="module")
def isolate(plan: Plan) -> Document:
    return Document(plan, "isolate")


@pytest.mark.parametrize("function", ["manage_servers", "restore_data", "workloads"])
def test_commands_are_run_on_the_plan_s_servers_alone(plan: Plan, function: str) -> None:
    document = Document(plan, function)
    for name in (OURS, OF_RUN, name_replaced(OURS, "run-1")):
        assert document.may("ssm:SendCommand", INSTANCE, ssm__resourceTag_of_Name=name), name
    for name in BUT_OURS:
        assert not document.may("ssm:SendCommand", INSTANCE, ssm__resourceTag_of_Name=name), name
    assert not document.may("ssm:SendCommand", INSTANCE)
    elsewhere = INSTANCE.replace(REGION, "eu-west-1")
    assert not document.may("ssm:SendCommand", elsewhere, ssm__resourceTag_of_Name=OURS)


def test_only_the_documents_that_steps_use_are_run(manage: Document) -> None:
    start = f"arn:aws:ssm:{REGION}::document/"
    assert manage.may("ssm:SendCommand", start + "AWS-RunShellScript")
    assert not manage.may("ssm:SendCommand", start + "AWS-RunPowerShellScript")
    assert not manage.may("ssm:SendCommand", f"arn:aws:ssm:{REGION}:{ACCOUNT}:document/own")


@pytest.mark.parametrize(
    "action", ["ec2:ModifyInstanceAttribute", "ec2:StartInstances", "ec2:StopInstances"]
)
def test_servers_of_others_are_not_touched(manage: Document, action: str) -> None:
    assert manage.may(action, INSTANCE, aws__ResourceTag_of_Name=OURS)
    for name in BUT_OURS:
        assert not manage.may(action, INSTANCE, aws__ResourceTag_of_Name=name), name
    assert not manage.may(
        action, INSTANCE, aws__ResourceTag_of_Name=OURS, aws__RequestedRegion="eu-west-1"
    )


def test_a_server_that_serves_is_never_ended(manage: Document) -> None:
    """A server keeps the tag of the run that launched it when it takes the plan's name."""
    end, run = "ec2:TerminateInstances", "run-1"
    tags = {"aws__ResourceTag_of_leeward__run": run}
    assert manage.may(end, INSTANCE, aws__ResourceTag_of_Name=OF_RUN, **tags)
    assert not manage.may(end, INSTANCE, aws__ResourceTag_of_Name=OURS, **tags)
    assert not manage.may(end, INSTANCE, aws__ResourceTag_of_Name=OF_RUN)


def test_no_server_of_others_is_made_to_look_like_the_plan_s(manage: Document) -> None:
    tag, given = "ec2:CreateTags", {"aws__RequestTag_of_Name": OURS, "aws__TagKeys": "Name"}
    assert manage.may(tag, INSTANCE, aws__ResourceTag_of_Name=OF_RUN, **given)
    assert not manage.may(tag, INSTANCE, aws__ResourceTag_of_Name="web", **given)
    assert not manage.may(tag, INSTANCE, **given)
    free = given | {"aws__RequestTag_of_Name": "web"}
    assert not manage.may(tag, INSTANCE, aws__ResourceTag_of_Name=OURS, **free)
    run = given | {"aws__TagKeys": "leeward:run"}
    assert not manage.may(tag, INSTANCE, aws__ResourceTag_of_Name=OURS, **run)


LAUNCH = {
    "LaunchTemplate": OURS,
    "TagSpecifications": "",
    "Tags": json.dumps(tags_of(OURS, "app-server", "run-1")),
}


def test_a_server_is_launched_as_its_template_says_under_a_name_of_its_run(
    manage: Document,
) -> None:
    assert manage.allows_call("ec2", "RunInstances", LAUNCH, REGION)
    assert manage.allows_call("ec2", "RunInstances", LAUNCH, "us-west-2")
    for refused in (
        {"TagSpecifications": "", "Tags": LAUNCH["Tags"]},  # no template
        LAUNCH | {"ImageId": "ami-1"},
        LAUNCH | {"SecurityGroupIds": ""},
        LAUNCH | {"Tags": json.dumps({"Name": OURS, "leeward:run": "run-1"})},
        LAUNCH | {"Tags": json.dumps({"Name": OF_RUN})},
    ):
        assert not manage.allows_call("ec2", "RunInstances", refused, REGION), refused
    assert not manage.allows_call("ec2", "RunInstances", LAUNCH, "eu-west-1")


def test_roles_are_lent_to_servers_alone(manage: Document) -> None:
    role = f"arn:aws:iam::{ACCOUNT}:role/artisttech-app"
    assert manage.may("iam:PassRole", role, iam__PassedToService="ec2.amazonaws.com")
    assert not manage.may("iam:PassRole", role, iam__PassedToService="lambda.amazonaws.com")


def test_targets_are_those_of_the_plan(plan: Plan, manage: Document) -> None:
    server = plan.components["app-server"]
    assert server.kind == "server"
    assert manage.may("elasticloadbalancing:RegisterTargets", server.target_group or "")
    others = "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/web/1"
    assert not manage.may("elasticloadbalancing:RegisterTargets", others)
    assert not manage.may("elasticloadbalancing:DeregisterTargets", "*")


def test_an_isolation_closes_the_plan_s_servers(isolate: Document) -> None:
    for action in ("ec2:ModifyInstanceAttribute", "ec2:DescribeInstanceAttribute"):
        assert isolate.may(action, INSTANCE, aws__ResourceTag_of_Name=OURS)
        assert not isolate.may(action, INSTANCE, aws__ResourceTag_of_Name="web")
    interface = {"NetworkInterfaceId": "eni-1", "Groups": "sg-1"}
    assert isolate.allows_call("ec2", "ModifyNetworkInterfaceAttribute", interface, REGION)
    assert not isolate.allows_call("ec2", "ModifyNetworkInterfaceAttribute", interface, "eu-west-1")
    assert not isolate.may("ec2:StopInstances", INSTANCE, aws__ResourceTag_of_Name=OURS)


def test_a_snapshot_is_of_the_plan_s_servers_and_tells_its_run(isolate: Document) -> None:
    create = "ec2:CreateSnapshots"
    snapshot = f"arn:aws:ec2:{REGION}::snapshot/*"
    assert isolate.may(create, INSTANCE, aws__ResourceTag_of_Name=OURS)
    assert not isolate.may(create, INSTANCE, aws__ResourceTag_of_Name="web")
    assert isolate.may(create, snapshot, aws__RequestTag_of_leeward__run="run-1")
    assert not isolate.may(create, snapshot)
    assert isolate.may("ec2:CreateTags", snapshot, ec2__CreateAction="CreateSnapshots")
    assert not isolate.may("ec2:CreateTags", snapshot)


def test_a_call_needs_each_resource_that_it_touches() -> None:
    groups = {"InstanceId": "i-1", "Groups": "sg-1,sg-2"}
    found = needs_of("ec2", "ModifyInstanceAttribute", groups, REGION)
    own = f"arn:aws:ec2:{REGION}:{ACCOUNT}:"
    assert [it.resource for it in found] == [
        INSTANCE, f"{own}security-group/sg-1", f"{own}security-group/sg-2",
    ]  # fmt: skip
    sent = {"DocumentName": "AWS-RunShellScript", "InstanceIds": "i-1,i-2"}
    assert [it.resource for it in needs_of("ssm", "SendCommand", sent, "us-west-2")] == [
        "arn:aws:ssm:us-west-2::document/AWS-RunShellScript",
        f"arn:aws:ec2:us-west-2:{ACCOUNT}:instance/i-1",
        f"arn:aws:ec2:us-west-2:{ACCOUNT}:instance/i-2",
    ]
    everything = needs_of("ec2", "StopInstances", {}, REGION)
    assert [it.resource for it in everything] == [f"{own}instance/*"]
