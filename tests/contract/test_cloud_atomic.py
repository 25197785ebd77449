"""Conditional writes and named starts of the local cloud have one winner, as in AWS."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator

import pytest
from botocore.exceptions import ClientError

from leeward.local.cloud import LocalCloud

RACERS = 8
ROUNDS = 12


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalCloud]:
    with LocalCloud() as started:
        yield started


@pytest.fixture(autouse=True)
def _threads_take_turns_often() -> Iterator[None]:
    """So that a race that is possible happens: by default a thread keeps the GIL for 5 ms."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def race(attempt: Callable[[int], object], losing_code: str) -> int:
    """How many of RACERS threads, let go at one moment, won; the others lost with that code."""
    gate, results = threading.Barrier(RACERS), []

    def run(number: int) -> None:
        gate.wait()
        try:
            attempt(number)
        except ClientError as error:
            results.append(error.response["Error"]["Code"])
        else:
            results.append("won")

    threads = [threading.Thread(target=run, args=(number,)) for number in range(RACERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(results) <= {"won", losing_code}
    return results.count("won")


def test_one_conditional_put_of_an_item_wins(cloud: LocalCloud) -> None:
    client = cloud.client("dynamodb")
    client.create_table(
        TableName="t",
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    for number in range(ROUNDS):
        item = {"pk": {"S": str(number)}}
        assert (
            race(
                lambda _, item=item: client.put_item(
                    TableName="t", Item=item, ConditionExpression="attribute_not_exists(pk)"
                ),
                "ConditionalCheckFailedException",
            )
            == 1
        )


def test_one_conditional_put_of_an_object_wins(cloud: LocalCloud) -> None:
    client = cloud.client("s3")
    client.create_bucket(Bucket="records")
    for number in range(ROUNDS):
        key = str(number)
        assert (
            race(
                lambda who, key=key: client.put_object(
                    Bucket="records", Key=key, Body=str(who), IfNoneMatch="*"
                ),
                "PreconditionFailed",
            )
            == 1
        )


def test_two_starts_with_one_name_start_one_execution(cloud: LocalCloud) -> None:
    client = cloud.client("stepfunctions")
    wait = {"Type": "Wait", "Seconds": 30, "End": True}
    definition = json.dumps({"StartAt": "W", "States": {"W": wait}})
    machine = client.create_state_machine(
        name="m", definition=definition, roleArn="arn:aws:iam::123456789012:role/r"
    )["stateMachineArn"]
    for number in range(ROUNDS):
        race(
            lambda _, name=f"run-{number}": client.start_execution(
                stateMachineArn=machine, name=name, input="{}"
            ),
            "ExecutionAlreadyExists",
        )
    names = [it["name"] for it in client.list_executions(stateMachineArn=machine)["executions"]]
    assert sorted(names) == sorted({f"run-{number}" for number in range(ROUNDS)})
