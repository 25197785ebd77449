"""What the local cloud knows of servers is what calls about them are judged by."""

from __future__ import annotations

from collections.abc import Iterator

import boto3
import pytest
from moto import mock_aws

from leeward.local.iam import needs_of

REGION = "us-west-2"


@pytest.fixture(autouse=True)
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        yield


def make_template(**data: object) -> str:
    made = boto3.client("ec2", REGION).create_launch_template(
        LaunchTemplateName="web", LaunchTemplateData={"ImageId": "ami-12c6146b", **data}
    )
    return str(made["LaunchTemplate"]["LaunchTemplateId"])


def test_a_server_has_the_tags_that_it_has_in_its_region() -> None:
    make_template()
    [made] = boto3.client("ec2", REGION).run_instances(
        LaunchTemplate={"LaunchTemplateName": "web"},
        MinCount=1,
        MaxCount=1,
        TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "web"}]}],
    )["Instances"]
    named = {"InstanceIds": made["InstanceId"], "DocumentName": "AWS-RunShellScript"}
    [_, need] = needs_of("ssm", "SendCommand", named, REGION)
    assert need.values("ssm:resourceTag/Name") == ["web"]
    [need] = needs_of("ec2", "StopInstances", named, REGION)
    assert need.values("aws:ResourceTag/Name") == ["web"]
    [elsewhere] = needs_of("ec2", "StopInstances", named, "us-east-1")
    assert elsewhere.values("aws:ResourceTag/Name") == []


@pytest.mark.parametrize("by", ["Name", "Arn"])
def test_a_launch_lends_the_role_that_its_template_names(by: str) -> None:
    iam = boto3.client("iam")
    role = iam.create_role(RoleName="web", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    profile = iam.create_instance_profile(InstanceProfileName="web-profile")["InstanceProfile"]
    iam.add_role_to_instance_profile(InstanceProfileName="web-profile", RoleName="web")
    named = {"Name": "web-profile", "Arn": profile["Arn"]}[by]
    template = make_template(IamInstanceProfile={by: named})
    needs = needs_of("ec2", "RunInstances", {"LaunchTemplate": "web"}, REGION)
    [lent] = [it for it in needs if it.action == "iam:PassRole"]
    assert (lent.resource, lent.values("iam:PassedToService")) == (role, ["ec2.amazonaws.com"])
    [own, *_] = needs
    assert own.resource.endswith(f":launch-template/{template}")
