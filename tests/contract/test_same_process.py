"""Calls of the process that is the cloud: answered as over the wire, without a connection."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from leeward.local.clients import CREDENTIALS
from leeward.local.cloud import PRIMARY_REGION, LocalCloud
from leeward.local.fault_server import Server

KEY = "a folder/ä&b=c%20+d.txt"
# What tells one answer from another that says the same.
OF_ONE_ANSWER = {
    "connection", "date", "host-id", "server", "x-amz-id-2", "x-amz-request-id", "x-amzn-requestid",
}  # fmt: skip
CALLS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "an object": ("s3", "get_object", {"Bucket": "shelf", "Key": KEY}),
    "a part of it": ("s3", "get_object", {"Bucket": "shelf", "Key": KEY, "Range": "bytes=1-2"}),
    "its head": ("s3", "head_object", {"Bucket": "shelf", "Key": KEY}),
    "an empty object": ("s3", "get_object", {"Bucket": "shelf", "Key": "empty"}),
    "a list": ("s3", "list_objects_v2", {"Bucket": "shelf", "Prefix": "a folder/"}),
    "what is not there": ("s3", "get_object", {"Bucket": "shelf", "Key": "none"}),
    "the head of that": ("s3", "head_object", {"Bucket": "shelf", "Key": "none"}),
    "a deletion of that": ("s3", "delete_object", {"Bucket": "shelf", "Key": "none"}),
    "another region's": ("sqs", "list_queues", {}),
    "a role": ("iam", "get_role", {"RoleName": "worker"}),
    "no such role": ("iam", "get_role", {"RoleName": "none"}),
    "a parameter": ("ssm", "get_parameter", {"Name": "/a/b"}),
    "a table that is not there": ("dynamodb", "describe_table", {"TableName": "none"}),
    "zones": ("route53", "list_hosted_zones", {}),
}


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalCloud]:
    with LocalCloud(schedules=False) as started:
        s3 = started.client("s3")
        s3.create_bucket(Bucket="shelf")
        s3.put_object(Bucket="shelf", Key=KEY, Body=b"12345", Metadata={"a_b": "c", "d-e": "f"})
        s3.put_object(Bucket="shelf", Key="empty", Body=b"")
        started.client("iam").create_role(RoleName="worker", AssumeRolePolicyDocument="{}")
        started.client("ssm").put_parameter(Name="/a/b", Value="ü", Type="String")
        yield started


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Of each connection that is opened from now on, the address of who opened it."""
    opened: list[Any] = []
    process = Server.process_request

    def note(server: Server, request: Any, address: Any) -> None:
        opened.append(address)
        process(server, request, address)

    monkeypatch.setattr(Server, "process_request", note)
    return opened


def over_the_wire(cloud: LocalCloud, service: str) -> Any:
    keys = {name.lower(): value for name, value in CREDENTIALS.items()}
    return boto3.client(service, endpoint_url=cloud.url, region_name=PRIMARY_REGION, **keys)


def said(ask: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """An answer, or an error, with all that its headers say; a body as its bytes."""
    try:
        answer = ask()
    except ClientError as error:
        answer = error.response
    if "Body" in answer:
        answer["Body"] = answer["Body"].read()
    about = answer.pop("ResponseMetadata")
    headers = about["HTTPHeaders"].items()
    kept = {name: value for name, value in headers if name not in OF_ONE_ANSWER}
    return answer | {"status": about["HTTPStatusCode"], "headers": kept}


@pytest.mark.parametrize("call", CALLS)
def test_the_answer_is_the_one_over_the_wire(
    cloud: LocalCloud, connections: list[Any], call: str
) -> None:
    service, operation, words = CALLS[call]
    own = said(lambda: getattr(cloud.client(service), operation)(**words))
    assert connections == []
    wire = said(lambda: getattr(over_the_wire(cloud, service), operation)(**words))
    assert len(connections) == 1
    assert own == wire


def test_a_body_is_read_piece_by_piece(cloud: LocalCloud) -> None:
    body = cloud.client("s3").get_object(Bucket="shelf", Key=KEY)["Body"]
    assert [body.read(2), body.read(2), body.read()] == [b"12", b"34", b"5"]
    body = cloud.client("s3").get_object(Bucket="shelf", Key=KEY)["Body"]
    assert list(body.iter_chunks(3)) == [b"123", b"45"]


def test_a_stream_is_stored_whole(cloud: LocalCloud) -> None:
    data = bytes(range(256)) * 5000
    s3 = cloud.client("s3")
    s3.put_object(Bucket="shelf", Key="stream", Body=io.BytesIO(data))
    s3.upload_fileobj(io.BytesIO(data), "shelf", "uploaded")
    for key in ("stream", "uploaded"):
        assert s3.get_object(Bucket="shelf", Key=key)["Body"].read() == data


def test_a_fault_meets_these_calls_too_until_it_is_healed(cloud: LocalCloud) -> None:
    fault = cloud.fail(region=PRIMARY_REGION, services=("ssm",), how="error")
    answer = said(lambda: cloud.client("ssm").get_parameter(Name="/a/b"))
    assert answer["status"] == 503
    cloud.heal(fault)
    assert cloud.client("ssm").get_parameter(Name="/a/b")["Parameter"]["Value"] == "ü"


def test_a_cloud_that_has_ended_answers_nobody(cloud: LocalCloud) -> None:
    """The last test: it ends the module's cloud."""
    client = cloud.client("ssm")
    cloud.stop()
    with pytest.raises(EndpointConnectionError):
        client.describe_parameters()
