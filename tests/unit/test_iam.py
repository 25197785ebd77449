"""Which rights a call needs, and whether a document gives them."""

from __future__ import annotations

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
    needs = needs_of(service, operation, parameters, "us-east-1")
    assert [(it.action, it.resource) for it in needs] == [
        (it.action, it.resource) for it in expected
    ]


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
    assert [(it.action, it.resource) for it in needs] == [
        ("s3:PutObject", "arn:aws:s3:::b/k"),
        ("s3:GetObjectVersion", "arn:aws:s3:::other/a/b"),
        ("kms:Decrypt", KEY),
    ]
    owners = [it.values("s3:ResourceAccount") for it in needs[:2]]
    assert owners == [["123456789012"]] * 2


@pytest.mark.parametrize(
    ("request_", "operation"),
    [
        (("GET", "", {"list-type": "2", "prefix": ""}), "ListObjectsV2"),
        (("GET", "", {"versions": ""}), "ListObjectVersions"),
        (("POST", "", {"delete": ""}), "DeleteObjects"),
        (("PUT", "k", {"partNumber": "1", "uploadId": "u"}), "UploadPart"),
        (("POST", "k", {"uploadId": "u"}), "CompleteMultipartUpload"),
        (("DELETE", "k", {"uploadId": "u"}), "AbortMultipartUpload"),
        (("GET", "", {"uploads": "", "prefix": "p/"}), "ListMultipartUploads"),
        (("GET", "k", {"uploadId": "u"}), "ListParts"),
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
        need = Need("dynamodb:GetItem", TABLE, (("dynamodb:LeadingKeys", partition),))
        assert (allows(some, need), allows(others, need)) == (first, second), partition
    with pytest.raises(BadInput):
        allows(some, Need("dynamodb:GetItem", TABLE))  # a call whose partition is not known


def test_what_is_absent_is_judged_by_the_request() -> None:
    null = {"Null": {"codebuild:source.buildspec": "true"}}
    project = "arn:aws:codebuild:us-east-1:123456789012:project/terraform"
    documents = [document(allow("codebuild:StartBuild", project) | {"Condition": null})]
    asked = {"projectName": "terraform"}
    [as_it_is] = needs_of("codebuild", "StartBuild", asked, "us-east-1")
    [changed] = needs_of(
        "codebuild", "StartBuild", asked | {"buildspecOverride": "rm"}, "us-east-1"
    )
    assert (allows(documents, as_it_is), allows(documents, changed)) == (True, False)


@pytest.mark.parametrize(
    "condition",
    [
        {"StringEquals": {"aws:SourceIp": "192.0.2.1"}},  # a key that nobody knows here
        {"IpAddress": {"aws:RequestedRegion": "us-east-1"}},  # an operator likewise
        {"ForAllValues:StringEquals": {"aws:TagKeys": ["Name"]}},  # IAM lets it pass without any
        {"StringNotLike": {"aws:RequestTag/Name": "web"}},  # the same
        {"StringEquals": {"aws:RequestedRegion": "eu-west-1", "aws:SourceIp": "192.0.2.1"}},
    ],
)
def test_what_cannot_be_judged_is_an_error_whatever_else_holds(condition: dict[str, Any]) -> None:
    statement = allow("ec2:CreateTags", "*") | {"Condition": condition}
    [need] = needs_of("ec2", "CreateTags", {"Resources": "i-1"}, "us-east-1")
    with pytest.raises(BadInput):
        allows([document(statement)], need)


def test_a_denial_with_a_condition_is_not_judged() -> None:
    deny = {"Effect": "Deny", "Action": "s3:*", "Resource": "*"}
    named = deny | {"Condition": {"StringEquals": {"aws:RequestedRegion": "eu-west-1"}}}
    with pytest.raises(BadInput):
        allows([document(allow("s3:*", "*"), named)], Need("s3:GetObject", "arn:aws:s3:::b/k"))
