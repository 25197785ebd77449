"""Which rights a call needs, and whether a document gives them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chalicelib.errors import BadInput
from leeward.local.iam import Need, allows, needs_of, unused_grants
from leeward.local.runner import Call
from leeward.local.sandbox_main import s3_operation

IAM = Path(__file__).parents[2] / "policies" / "iam"
TABLE = "arn:aws:dynamodb:us-east-1:123456789012:table/state"


def document(*statements: dict[str, Any]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def allow(action: Any, resource: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource}


@pytest.mark.parametrize(
    ("service", "operation", "parameters", "expected"),
    [
        ("dynamodb", "PutItem", {"TableName": "state"}, [Need("dynamodb:PutItem", TABLE)]),
        ("s3", "ListObjectsV2", {"Bucket": "b"}, [Need("s3:ListBucket", "arn:aws:s3:::b")]),
        (
            "s3",
            "UploadPart",
            {"Bucket": "b", "Key": "k/1"},
            [Need("s3:PutObject", "arn:aws:s3:::b/k/1")],
        ),
        (
            "s3",
            "HeadObject",
            {"Bucket": "b", "Key": "k"},
            [Need("s3:GetObject", "arn:aws:s3:::b/k")],
        ),
        (
            "s3",
            "GetObject",
            {"Bucket": "b", "Key": "k", "VersionId": "7"},
            [Need("s3:GetObjectVersion", "arn:aws:s3:::b/k")],
        ),
        (
            "s3",
            "PutObject",
            {"Bucket": "b", "Key": "k", "ObjectLockRetainUntilDate": ""},
            [
                Need("s3:PutObject", "arn:aws:s3:::b/k"),
                Need("s3:PutObjectRetention", "arn:aws:s3:::b/k"),
            ],
        ),
        ("monitoring", "PutMetricData", {}, [Need("cloudwatch:PutMetricData", "*")]),
        (
            "secretsmanager",
            "GetSecretValue",
            {"SecretId": "db/op"},
            [
                Need(
                    "secretsmanager:GetSecretValue",
                    "arn:aws:secretsmanager:us-east-1:123456789012:secret:db/op-AbCdEf",
                )
            ],
        ),
    ],
)  # fmt: skip
def test_a_call_needs_its_action_on_its_resource(
    service: str, operation: str, parameters: dict[str, str], expected: list[Need]
) -> None:
    assert needs_of(service, operation, parameters, "us-east-1") == expected


def test_a_right_must_match_action_and_resource() -> None:
    granted = [document(allow(["dynamodb:GetItem", "dynamodb:Put*"], TABLE))]
    assert allows(granted, Need("dynamodb:PutItem", TABLE))
    assert not allows(granted, Need("dynamodb:DeleteItem", TABLE))
    assert not allows(granted, Need("dynamodb:PutItem", TABLE + "s"))
    assert not allows([], Need("dynamodb:PutItem", TABLE))


def test_a_question_mark_is_one_character() -> None:
    granted = [document(allow("a:B", "arn:secret:db/op-??????"))]
    assert allows(granted, Need("a:B", "arn:secret:db/op-AbCdEf"))
    assert not allows(granted, Need("a:B", "arn:secret:db/op-other-AbCdEf"))


def test_a_denial_wins() -> None:
    deny = {"Effect": "Deny", "Action": "s3:*", "Resource": "*"}
    assert not allows(
        [document(allow("s3:*", "*"), deny)], Need("s3:GetObject", "arn:aws:s3:::b/k")
    )


def test_a_condition_is_never_taken_for_a_pass() -> None:
    statement = allow("s3:*", "*") | {"Condition": {"Bool": {"aws:SecureTransport": "true"}}}
    with pytest.raises(BadInput):
        allows([document(statement)], Need("s3:GetObject", "arn:aws:s3:::b/k"))


KEY = "arn:aws:kms:us-east-1:123456789012:key/1"


@pytest.mark.parametrize(
    ("operation", "parameters", "expected"),
    [
        ("PutObject", {}, ["kms:GenerateDataKey"]),
        ("UploadPart", {}, ["kms:GenerateDataKey", "kms:Decrypt"]),
        ("GetObject", {}, ["kms:Decrypt"]),
        ("HeadObject", {}, []),
        ("CopyObject", {"CopySource": "other/k"}, ["kms:GenerateDataKey"]),
        ("PutObject", {"ServerSideEncryption": "AES256"}, []),
        ("DeleteObject", {}, []),
    ],
)
def test_an_encrypted_bucket_needs_its_key(
    operation: str, parameters: dict[str, str], expected: list[str]
) -> None:
    where = {"Bucket": "b", "Key": "k"} | parameters
    needs = needs_of("s3", operation, where, "us-east-1", bucket_key=KEY)
    assert [it.action for it in needs if it.resource == KEY] == expected


def test_grants_that_no_call_needed_are_reported() -> None:
    documents = [
        document(
            allow(["dynamodb:PutItem", "dynamodb:DeleteItem"], TABLE),
            allow(["logs:PutLogEvents", "s3:Get*"], "*"),
        )
    ]
    needs = tuple(needs_of("dynamodb", "PutItem", {"TableName": "state"}, "us-east-1"))
    calls = [Call("f", "dynamodb", "PutItem", {"TableName": "state"}, needs)]
    assert unused_grants(documents, calls) == ["dynamodb:DeleteItem", "s3:Get*"]


def test_a_copy_reads_its_source_under_the_source_s_own_key() -> None:
    where = {"Bucket": "b", "Key": "k", "CopySource": "other/a/b?versionId=7"}
    needs = needs_of("s3", "CopyObject", where, "us-east-1", source_key=KEY)
    assert needs == [
        Need("s3:PutObject", "arn:aws:s3:::b/k"),
        Need("s3:GetObjectVersion", "arn:aws:s3:::other/a/b"),
        Need("kms:Decrypt", KEY),
    ]


@pytest.mark.parametrize(
    ("request_", "operation"),
    [
        (("GET", "", {"list-type": "2", "prefix": ""}), "ListObjectsV2"),
        (("GET", "", {"versions": ""}), "ListObjectVersions"),
        (("POST", "", {"delete": ""}), "DeleteObjects"),
        (("PUT", "k", {"partNumber": "1", "uploadId": "u"}), "UploadPart"),
        (("POST", "k", {"uploadId": "u"}), "CompleteMultipartUpload"),
        (("DELETE", "k", {"uploadId": "u"}), "AbortMultipartUpload"),
        (("GET", "k", {"versionId": "7"}), "GetObject"),
        (("GET", "k", {"tagging": "", "versionId": "7"}), "GetObjectTagging"),
    ],
)
def test_a_request_is_named_as_botocore_names_it(
    request_: tuple[str, str, dict[str, str]], operation: str
) -> None:
    assert s3_operation(*request_, {}) == operation


def test_a_request_that_nobody_knows_has_no_right_to_be_made() -> None:
    operation = s3_operation("PUT", "", {"policy": ""}, {})
    [need] = needs_of("s3", operation, {"Bucket": "b"}, "us-east-1")
    assert not allows([document(allow("s3:Put*", "*"))], need)
    assert s3_operation("PUT", "k", {}, {"x-amz-copy-source": "a/b"}) == "CopyObject"


def test_a_condition_on_partitions_is_judged() -> None:
    like = {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": ["tokens", "run#*"]}}
    unlike = {"ForAllValues:StringNotLike": {"dynamodb:LeadingKeys": ["factor#*"]}}
    some = [document(allow("dynamodb:GetItem", TABLE) | {"Condition": like})]
    others = [document(allow("dynamodb:GetItem", TABLE) | {"Condition": unlike})]
    for partition, first, second in (
        ("tokens", True, True),
        ("run#1", True, True),
        ("factor#cto", False, False),
        ("incidents", False, True),
    ):
        need = Need("dynamodb:GetItem", TABLE, partition)
        assert (allows(some, need), allows(others, need)) == (first, second), partition
    with pytest.raises(BadInput):
        allows(some, Need("dynamodb:GetItem", TABLE))  # a call whose partition is not known


MANAGE = json.loads((IAM / "manage_servers.json").read_text().replace("${AWS::Partition}", "aws"))
INSTANCE = "arn:aws:ec2:us-east-1:123456789012:instance/i-1"


def may(action: str, resource: str, **facts: str) -> bool:
    """Of the function that manages servers; facts: condition keys, `__` for what Python bars."""
    named = tuple((key.replace("__", ":").replace("_of_", "/"), it) for key, it in facts.items())
    return allows([_resolved(MANAGE)], Need(action, resource, "", named))


def _resolved(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {"Fn::Sub"}:
            return value["Fn::Sub"].replace("${AWS::AccountId}", "123456789012")
        return {key: _resolved(it) for key, it in value.items() if it != {"Ref": "ServerRoles"}}
    return [_resolved(it) for it in value] if isinstance(value, list) else value


def test_a_server_is_launched_from_a_template_and_ended_where_a_run_launched_it() -> None:
    template = "arn:aws:ec2:us-east-1:123456789012:launch-template/lt-1"
    assert may("ec2:RunInstances", "*", ec2__LaunchTemplate=template)
    assert not may("ec2:RunInstances", "*")
    assert may("ec2:TerminateInstances", INSTANCE, aws__ResourceTag_of_leeward__run="r-1")
    assert not may("ec2:TerminateInstances", INSTANCE, aws__ResourceTag_of_Name="web")


def test_a_server_that_no_run_launched_is_not_made_to_look_like_one() -> None:
    assert may("ec2:CreateTags", INSTANCE, ec2__CreateAction="RunInstances")
    assert may("ec2:CreateTags", INSTANCE, aws__TagKeys="Name")
    assert not may("ec2:CreateTags", INSTANCE, aws__TagKeys="Name,leeward:run")
    assert not may("ec2:CreateTags", INSTANCE)
    assert not may("ec2:CreateTags", "arn:aws:ec2:us-east-1:123456789012:volume/vol-1",
                   aws__TagKeys="Name")  # fmt: skip


def test_what_a_call_about_a_server_needs() -> None:
    launched = {"LaunchTemplate": "", "TagSpecifications": ""}
    assert [it.action for it in needs_of("ec2", "RunInstances", launched, "us-east-1")] == [
        "ec2:RunInstances", "ec2:CreateTags",
    ]  # fmt: skip
    [renamed] = needs_of("ec2", "CreateTags", {"Resources": "i-1", "TagKeys": "Name"}, "us-east-1")
    assert renamed == Need("ec2:CreateTags", INSTANCE, "", (("aws:TagKeys", "Name"),))
    [bare] = needs_of("ec2", "RunInstances", {}, "us-east-1")
    assert bare.facts == ()
