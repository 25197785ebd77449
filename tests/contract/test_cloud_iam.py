"""Functions of the local cloud may do what their role allows, and every AWS call is known."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from leeward.local.cloud import PRIMARY_REGION, LocalCloud
from leeward.local.iam import role_documents, unused_grants
from leeward.local.runner import Call
from tests.clouds import CODE, create_function, create_role, invoke

ELSEWHERE = "us-west-2"
ROOT = Path(__file__).parents[2]
# Requests that botocore does not make: S3's own client of users' buckets.
READ = """
import asyncio
from chalicelib.adapters.s3.bucket import S3Buckets
from chalicelib.adapters.s3.signing import ambient_credentials
from chalicelib.errors import LeewardError
from chalicelib.ports.buckets import CopySource

def read(event, context):
    try:
        return asyncio.run(work(event))
    except LeewardError as error:
        return {"refused": error.instance_code}

async def work(event):
    async with S3Buckets(ambient_credentials()) as buckets:
        bucket = buckets.bucket(event["bucket"], "us-east-1", endpoint_url=event["url"])
        if event["do"] == "head":
            return (await bucket.head("k")).size_bytes
        if event["do"] == "copy":
            return (await bucket.copy_from(CopySource("hidden", "a b", size_bytes=1))).key
        return [row.key async for row in bucket.list()]
"""
THERE = """
def write_there(event, context):
    import boto3
    table = boto3.client("dynamodb", region_name=event["region"])
    table.put_item(TableName="mine", Item={"pk": {"S": "there"}})
    return event["region"]
"""
TABLE = "arn:aws:dynamodb:us-east-1:123456789012:table/"


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    """From a working tree: the interpreter's own libraries are there, boto3 among them."""
    folder: Path = tmp_path_factory.mktemp("tree")
    (folder / "app.py").write_text(CODE + READ + THERE)
    (folder / "chalicelib").symlink_to(ROOT / "chalicelib")
    with LocalCloud(source=folder) as started:
        role = create_role(
            started,
            "one-table",
            {
                "Effect": "Allow",
                "Action": ["dynamodb:PutItem", "dynamodb:GetItem", "dynamodb:DeleteItem"],
                "Resource": TABLE + "mine",
            },
        )
        create_function(started, "remember", role)
        create_function(started, "write_there", _role_of_one_region(started))
        _create_buckets(started)
        for name, region in (("mine", ""), ("other", ""), ("mine", ELSEWHERE)):
            started.client("dynamodb", region or PRIMARY_REGION).create_table(
                TableName=name,
                KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
                AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
                BillingMode="PAY_PER_REQUEST",
            )
        yield started


def test_what_the_role_allows_is_done(cloud: LocalCloud) -> None:
    payload, error = invoke(cloud, "remember", {"table": "mine", "key": "a"})
    assert (payload, error) == ({"pk": {"S": "a"}}, None)


def test_what_the_role_does_not_allow_fails_as_in_aws_and_is_not_done(cloud: LocalCloud) -> None:
    payload, error = invoke(cloud, "remember", {"table": "other", "key": "a"})
    assert error == "Unhandled"
    assert "(AccessDeniedException)" in payload["errorMessage"]
    assert "is not authorized to perform: dynamodb:PutItem" in payload["errorMessage"]
    assert cloud.client("dynamodb").scan(TableName="other")["Count"] == 0


def test_every_call_is_known_with_what_it_needed(cloud: LocalCloud) -> None:
    before = len(cloud.calls("remember"))
    invoke(cloud, "remember", {"table": "mine", "key": "b"})
    made = cloud.calls("remember")[before:]
    assert [it.operation for it in made] == ["PutItem", "GetItem"]
    assert [need.resource for it in made for need in it.needs] == [TABLE + "mine"] * 2
    documents = role_documents("arn:aws:iam::123456789012:role/one-table")
    assert unused_grants(documents, cloud.calls("remember")) == ["dynamodb:DeleteItem"]


def test_a_call_is_judged_in_the_region_that_it_goes_to(cloud: LocalCloud) -> None:
    """The function runs in another one."""
    assert invoke(cloud, "write_there", {"region": ELSEWHERE}) == (ELSEWHERE, None)
    payload, error = invoke(cloud, "write_there", {"region": PRIMARY_REGION})
    assert error == "Unhandled"
    assert f"on resource: {TABLE}mine" in payload["errorMessage"]
    made = [(it.region, it.denied is None) for it in cloud.calls("write_there")]
    assert made == [(ELSEWHERE, True), (PRIMARY_REGION, False)]


def test_a_worker_that_is_struck_at_a_call_dies_before_it_takes_effect(cloud: LocalCloud) -> None:
    struck: list[str] = []
    event = {"table": "mine", "key": "struck"}

    def strikes(call: Call, of: Any) -> bool:
        assert of == event
        struck.append(call.sandbox)
        return call.operation == "PutItem"

    cloud.strike(strikes)
    payload, error = invoke(cloud, "remember", event)
    cloud.strike(lambda call, of: False)
    assert (error, payload["errorType"]) == ("Unhandled", "Runtime.ExitError")
    assert [name.startswith("app-test-remember-") for name in struck] == [True]
    key = {"pk": {"S": "struck"}}
    assert "Item" not in cloud.client("dynamodb").get_item(TableName="mine", Key=key)
    assert invoke(cloud, "remember", event) == (key, None)


def _role_of_one_region(cloud: LocalCloud) -> str:
    statement = {
        "Effect": "Allow",
        "Action": "dynamodb:PutItem",
        "Resource": "arn:aws:dynamodb:*:123456789012:table/mine",
        "Condition": {"StringEquals": {"aws:RequestedRegion": ELSEWHERE}},
    }
    return create_role(cloud, "one-region", statement)


def _create_buckets(cloud: LocalCloud) -> None:
    objects = {"Effect": "Allow", "Action": "s3:*Object", "Resource": "arn:aws:s3:::open/*"}
    listing = {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "arn:aws:s3:::open"}
    create_function(cloud, "read", create_role(cloud, "one-bucket", objects, listing))
    for bucket in ("open", "hidden"):
        cloud.client("s3").create_bucket(Bucket=bucket)
        for key in ("k", "a b"):
            cloud.client("s3").put_object(Bucket=bucket, Key=key, Body=b"1")


def test_a_call_that_botocore_does_not_make_is_judged_too(cloud: LocalCloud) -> None:
    def read(bucket: str, do: str) -> object:
        return invoke(cloud, "read", {"bucket": bucket, "do": do, "url": cloud.url})[0]

    assert (read("open", "list"), read("open", "head")) == (["a b", "k"], 1)
    for do in ("list", "head"):
        assert read("hidden", do) == {"refused": "access-denied"}
    # A copy needs the right to read its source, not only to write.
    assert read("open", "copy") == {"refused": "access-denied"}
    made = [(it.operation, it.denied is None) for it in cloud.calls("read")]
    assert made[:4] == [
        ("ListObjectsV2", True),
        ("HeadObject", True),
        ("ListObjectsV2", False),
        ("HeadObject", False),
    ]
    [copy] = cloud.calls("read")[4:]
    assert [need.resource for need in copy.needs] == [
        "arn:aws:s3:::open/a b",
        "arn:aws:s3:::hidden/a b",
    ]
