"""A region of the local cloud fails at its socket, and the other one does not notice."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    EndpointConnectionError,
    ReadTimeoutError,
)

from chalicelib.errors import BadInput
from leeward.local.cloud import PRIMARY_REGION, STANDBY_REGION, LocalCloud
from leeward.local.faults import How
from tests.clouds import CODE, create_function, create_role, invoke, wait_for

BUCKET = "nexus-backups"
CLOSED = (ConnectionClosedError, EndpointConnectionError)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    folder = tmp_path_factory.mktemp("source")
    (folder / "app.py").write_text(CODE)
    with LocalCloud(source=folder, schedules=False) as started:
        started.client("s3").create_bucket(Bucket=BUCKET)
        started.client("s3").put_object(Bucket=BUCKET, Key="point", Body=b"bytes")
        yield started


@pytest.fixture
def cloud(running: LocalCloud) -> Iterator[LocalCloud]:
    yield running
    running.heal()


def client(
    cloud: LocalCloud, service: str, region: str = PRIMARY_REGION, seconds: float = 1
) -> Any:
    """As a function in a sandbox calls, without a second try."""
    config = Config(retries={"total_max_attempts": 1}, read_timeout=seconds)
    return boto3.client(
        service,
        region_name=region,
        endpoint_url=cloud.url,
        config=config,
        aws_access_key_id="any",
        aws_secret_access_key="any",
    )


def code_of(error: pytest.ExceptionInfo[ClientError]) -> tuple[str, int]:
    answer = error.value.response
    return answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]


@pytest.mark.parametrize("how", ["refuse", "reset"])
def test_a_region_that_is_gone_answers_no_service_and_the_other_region_answers(
    cloud: LocalCloud, how: How
) -> None:
    cloud.fail(region=PRIMARY_REGION, how=how)
    for service, operation in (("dynamodb", "list_tables"), ("sts", "get_caller_identity")):
        with pytest.raises(CLOSED):
            getattr(client(cloud, service), operation)()
        assert getattr(client(cloud, service, STANDBY_REGION), operation)()
    cloud.heal()
    assert client(cloud, "dynamodb").list_tables()["TableNames"] == []


def test_a_call_that_hangs_holds_its_caller_and_nobody_else(cloud: LocalCloud) -> None:
    cloud.fail(region=PRIMARY_REGION, services=("dynamodb",), how="hang")
    before = threading.active_count()
    waiting = [hang_on(cloud) for _ in range(200)]
    wait_for(lambda: threading.active_count() < before + 20, "each call holds a thread")
    assert client(cloud, "dynamodb", STANDBY_REGION).list_tables()
    began = time.monotonic()
    with pytest.raises(ReadTimeoutError):
        client(cloud, "dynamodb", seconds=0.5).list_tables()
    assert 0.4 < time.monotonic() - began < 3
    cloud.heal()
    for connection in waiting:
        connection.settimeout(5)
        assert connection.recv(10) == b""  # let go when the fault has ended
        connection.close()


def hang_on(cloud: LocalCloud) -> socket.socket:
    """A call by hand: a connection of its own that waits for its answer."""
    port = int(cloud.url.rpartition(":")[2])
    connection = socket.create_connection(("127.0.0.1", port))
    scope = f"AWS4-HMAC-SHA256 Credential=any/20261122/{PRIMARY_REGION}/dynamodb/aws4_request"
    head = (
        "POST / HTTP/1.1\r\nHost: any\r\nContent-Length: 2\r\n"
        f"X-Amz-Target: DynamoDB_20120810.ListTables\r\nAuthorization: {scope}, Signature=any\r\n"
    )
    connection.sendall(f"{head}\r\n{{}}".encode())
    return connection


def test_each_service_says_in_its_own_form_that_it_cannot_or_not_now(cloud: LocalCloud) -> None:
    calls = {
        "s3": lambda: client(cloud, "s3").get_object(Bucket=BUCKET, Key="point"),
        "dynamodb": lambda: client(cloud, "dynamodb").list_tables(),
        "lambda": lambda: client(cloud, "lambda").list_functions(),
        "sts": lambda: client(cloud, "sts").get_caller_identity(),
        "ec2": lambda: client(cloud, "ec2").describe_instances(),
    }
    said: dict[str, tuple[str, int]] = {}
    for how in ("error", "throttle"):
        cloud.heal()
        cloud.fail(region=PRIMARY_REGION, how=how)
        for name, call in calls.items():
            with pytest.raises(ClientError) as error:
                call()
            said[f"{name} {how}"] = code_of(error)
    assert said == {
        "s3 error": ("ServiceUnavailable", 503),
        "dynamodb error": ("ServiceUnavailableException", 503),
        "lambda error": ("ServiceUnavailableException", 503),
        "sts error": ("ServiceUnavailable", 503),
        "ec2 error": ("ServiceUnavailable", 503),
        "s3 throttle": ("SlowDown", 503),
        "dynamodb throttle": ("ThrottlingException", 400),
        "lambda throttle": ("TooManyRequestsException", 429),
        "sts throttle": ("Throttling", 400),
        "ec2 throttle": ("Throttling", 400),
    }


def test_a_large_upload_hears_the_error_and_not_a_broken_connection(cloud: LocalCloud) -> None:
    cloud.fail(region=PRIMARY_REGION, services=("s3",), how="error")
    with pytest.raises(ClientError) as error:
        client(cloud, "s3", seconds=20).put_object(Bucket=BUCKET, Key="b", Body=bytes(20 << 20))
    assert code_of(error) == ("ServiceUnavailable", 503)


def test_only_the_named_operations_fail_however_the_service_writes_them(cloud: LocalCloud) -> None:
    fault = cloud.fail(
        region=PRIMARY_REGION,
        services=("s3", "ec2", "route53", "dynamodb", "lambda"),
        operations=(
            "PutObject", "ListObjectsV2", "RunInstances", "ChangeResourceRecordSets", "GetItem",
            "CreateFunction",
        ),
        how="error",
    )  # fmt: skip
    s3, ec2, route53 = (client(cloud, it, seconds=20) for it in ("s3", "ec2", "route53"))
    assert s3.get_object(Bucket=BUCKET, Key="point")["Body"].read() == b"bytes"
    assert s3.list_object_versions(Bucket=BUCKET)["Versions"]
    assert ec2.describe_instances()["Reservations"] == []
    assert route53.list_hosted_zones()["HostedZones"] == []
    assert client(cloud, "lambda").list_functions()["Functions"] == []
    change = {"Action": "UPSERT", "ResourceRecordSet": {"Name": "a.b", "Type": "A", "TTL": 1}}
    failing = (
        lambda: s3.put_object(Bucket=BUCKET, Key="other", Body=b""),
        lambda: s3.list_objects_v2(Bucket=BUCKET),
        lambda: ec2.run_instances(MinCount=1, MaxCount=1, ImageId="ami-1"),
        lambda: route53.change_resource_record_sets(
            HostedZoneId="Z1", ChangeBatch={"Changes": [change]}
        ),
        lambda: client(cloud, "dynamodb").get_item(TableName="t", Key={"k": {"S": "1"}}),
        lambda: client(cloud, "lambda").create_function(
            FunctionName="f", Role="arn:aws:iam::1:role/any", Code={"ZipFile": b""}
        ),
    )
    for call in failing:
        with pytest.raises(ClientError) as error:
            call()
        assert code_of(error)[1] == 503
    assert cloud.faults.fired[fault] == len(failing)


def test_a_bucket_goes_with_its_own_region_whoever_asks(cloud: LocalCloud) -> None:
    cloud.fail(region=PRIMARY_REGION)
    standby = client(cloud, "s3", STANDBY_REGION)
    with pytest.raises(CLOSED):
        standby.get_object(Bucket=BUCKET, Key="point")
    address = standby.generate_presigned_url("get_object", {"Bucket": BUCKET, "Key": "point"})
    assert raw_get(address) == b""
    elsewhere = {"LocationConstraint": STANDBY_REGION}
    standby.create_bucket(Bucket="standby", CreateBucketConfiguration=elsewhere)
    assert standby.list_objects_v2(Bucket="standby")["KeyCount"] == 0


def raw_get(address: str) -> bytes:
    """What the socket gives: nothing at all when it is closed."""
    host, _, path = address.removeprefix("http://").partition("/")
    name, _, port = host.partition(":")
    with socket.create_connection((name, int(port))) as connection:
        connection.sendall(f"GET /{path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        return connection.recv(100)


def test_whoever_stands_outside_sees_what_is_left(cloud: LocalCloud) -> None:
    cloud.fail(region=PRIMARY_REGION, how="hang")
    assert cloud.outside("s3").get_object(Bucket=BUCKET, Key="point")["Body"].read() == b"bytes"


def test_functions_and_state_machines_meet_the_faults_too(cloud: LocalCloud) -> None:
    echo = create_function(cloud, "echo", create_role(cloud, "any"))
    state = {"Type": "Task", "Resource": echo, "End": True}
    machines = cloud.client("stepfunctions", STANDBY_REGION)
    definition = json.dumps({"StartAt": "Call", "States": {"Call": state}})
    arn = machines.create_state_machine(
        name="m", definition=definition, roleArn="arn:aws:iam::123456789012:role/any"
    )["stateMachineArn"]
    table = {"TableName": "t", "BillingMode": "PAY_PER_REQUEST"}
    attributes = [{"AttributeName": "pk", "AttributeType": "S"}]
    keys = [{"AttributeName": "pk", "KeyType": "HASH"}]
    cloud.client("dynamodb").create_table(**table, AttributeDefinitions=attributes, KeySchema=keys)
    create_function(
        cloud, "remember", create_role(cloud, "db", {"Effect": "Allow", "Action": "dynamodb:*",
                                                     "Resource": "*"})
    )  # fmt: skip
    cloud.fail(region=PRIMARY_REGION, services=("dynamodb",), operations=("PutItem",), how="error")
    payload, failed = invoke(cloud, "remember", {"table": "t", "key": "1"})
    assert failed
    assert "ServiceUnavailable" in payload["errorMessage"]
    cloud.heal()
    assert invoke(cloud, "remember", {"table": "t", "key": "1"})[1] is None

    cloud.fail(region=PRIMARY_REGION)
    run = machines.start_execution(stateMachineArn=arn, name="run", input="{}")["executionArn"]
    ended = wait_for(lambda: _ended(machines, run), "the machine did not end")
    assert ended["status"] == "FAILED"


def _ended(machines: Any, run: str) -> Any:
    found = machines.describe_execution(executionArn=run)
    return None if found["status"] == "RUNNING" else found


def test_no_schedule_fires_in_a_region_that_is_gone(cloud: LocalCloud) -> None:
    events = cloud.client("events")
    function = create_function(cloud, "flaky", create_role(cloud, "other"))
    rule = events.put_rule(Name="tick", ScheduleExpression="rate(1 minute)")["RuleArn"]
    events.put_targets(Rule="tick", Targets=[{"Id": "1", "Arn": function, "Input": '{"times":1}'}])
    cloud.client("lambda").add_permission(
        FunctionName=function, StatementId="tick", Action="lambda:InvokeFunction",
        Principal="events.amazonaws.com", SourceArn=rule,
    )  # fmt: skip
    cloud.fail(region=PRIMARY_REGION)
    cloud.fire("tick")
    assert cloud.wait_idle()
    assert "reached" not in cloud.logs("flaky")
    cloud.heal()
    cloud.fire("tick")
    assert cloud.wait_idle()
    assert "reached" in cloud.logs("flaky")


def test_an_unknown_way_to_fail_is_refused(cloud: LocalCloud) -> None:
    with pytest.raises(BadInput, match="expected one of refuse"):
        cloud.fail(region=PRIMARY_REGION, how="explode")  # type: ignore[arg-type]
