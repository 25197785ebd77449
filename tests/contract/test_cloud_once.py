"""What the local cloud works out once is what moto works out each time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from leeward.local.cloud import STANDBY_REGION, LocalCloud
from leeward.local.glance import count_keys, is_running
from tests.clouds import ended, run_machine, wait_for

ROLE = "arn:aws:iam::123456789012:role/any"


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalCloud]:
    with LocalCloud(schedules=False) as started:
        yield started


def test_executions_of_one_definition_know_nothing_of_each_other(cloud: LocalCloud) -> None:
    states = {
        "Choose": {
            "Type": "Choice",
            "Choices": [{"Variable": "$.big", "BooleanEquals": True, "Next": "Big"}],
            "Default": "Small",
        },
        "Big": {"Type": "Pass", "Result": {"is": "big"}, "End": True},
        "Small": {"Type": "Pass", "Result": {"is": "small"}, "End": True},
    }
    client = cloud.client("stepfunctions")
    definition = json.dumps({"StartAt": "Choose", "States": states})
    machine = client.create_state_machine(name="both", definition=definition, roleArn=ROLE)
    runs = [
        client.start_execution(
            stateMachineArn=machine["stateMachineArn"],
            name=f"run-{number}",
            input=json.dumps({"big": number % 2 == 0}),
        )["executionArn"]
        for number in range(8)
    ]
    found = [wait_for(lambda run=run: ended(cloud, run), "it did not end") for run in runs]
    assert [json.loads(it["output"])["is"] for it in found] == ["big", "small"] * 4


def test_a_definition_that_is_none_is_refused_each_time(cloud: LocalCloud) -> None:
    wrong = json.dumps({"StartAt": "A", "States": {"A": {"Type": "Pass", "End": 1}}})
    for number in range(2):
        with pytest.raises(ClientError) as caught:
            cloud.client("stepfunctions").create_state_machine(
                name=f"wrong-{number}", definition=wrong, roleArn=ROLE
            )
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


def test_a_machine_that_uses_most_of_the_language_runs(cloud: LocalCloud) -> None:
    """Intrinsic functions, a map, errors caught: the parser's cheap strategy reads them too."""
    each = {"StartAt": "One", "States": {"One": {"Type": "Pass", "End": True}}}
    states = {
        "Count": {
            "Type": "Pass",
            "Parameters": {"items.$": "States.ArrayRange(1, 3, 1)"},
            "Next": "Each",
        },
        "Each": {
            "Type": "Map",
            "ItemsPath": "$.items",
            "ItemProcessor": each,
            "ResultPath": "$.done",
            "Next": "Fails",
        },
        "Fails": {
            "Type": "Parallel",
            "Branches": [{"StartAt": "F", "States": {"F": {"Type": "Fail", "Error": "Own"}}}],
            "Catch": [{"ErrorEquals": ["Own"], "ResultPath": "$.error", "Next": "Told"}],
            "End": True,
        },
        "Told": {
            "Type": "Pass",
            "Parameters": {"text.$": "States.Format('{} {}', $.error.Error, $.done[2])"},
            "End": True,
        },
    }
    assert json.loads(run_machine(cloud, states)["output"]) == {"text": "Own 3"}


def test_keys_encrypt_and_sign(cloud: LocalCloud) -> None:
    kms = cloud.client("kms")
    symmetric = kms.create_key()["KeyMetadata"]["KeyId"]
    wrapped = kms.encrypt(KeyId=symmetric, Plaintext=b"secret")["CiphertextBlob"]
    assert kms.decrypt(CiphertextBlob=wrapped)["Plaintext"] == b"secret"
    signing = kms.create_key(KeySpec="RSA_2048", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["KeyId"]
    how = {"KeyId": signing, "Message": b"text", "SigningAlgorithm": "RSASSA_PSS_SHA_256"}
    signature = kms.sign(**how)["Signature"]
    assert kms.verify(**how, Signature=signature)["SignatureValid"]
    public = kms.get_public_key(KeyId=signing)["PublicKey"]
    assert len(public) > 256


def test_a_value_of_any_type_comes_back_as_it_was_written(cloud: LocalCloud) -> None:
    client = cloud.client("dynamodb")
    client.create_table(
        TableName="types",
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    simple: dict[str, Any] = {
        "text": {"S": "a"},
        "nothing": {"NULL": True},
        "number": {"N": "-1.5"},
        "no": {"BOOL": False},
        "bytes": {"B": b"\x00\xff"},
    }
    sets: dict[str, Any] = {"SS": ["a", "b"], "NS": ["1", "2"], "BS": [b"\x01", b"\x02"]}
    item = simple | {kind: {kind: held} for kind, held in sets.items()}
    item |= {"map": {"M": simple | {"list": {"L": [*simple.values(), {"M": {}}, {"L": []}]}}}}
    client.put_item(TableName="types", Item={"pk": {"S": "it"}} | item)
    [found] = client.scan(TableName="types")["Items"]
    for kind in sets:
        found[kind][kind].sort()
    assert found == {"pk": {"S": "it"}} | item


def test_a_glance_shows_whether_an_execution_runs_in_its_region(cloud: LocalCloud) -> None:
    client = cloud.client("stepfunctions", STANDBY_REGION)
    states = {"Sleep": {"Type": "Wait", "Seconds": 60, "End": True}}
    definition = json.dumps({"StartAt": "Sleep", "States": states})
    machine = client.create_state_machine(name="waits", definition=definition, roleArn=ROLE)
    run = client.start_execution(stateMachineArn=machine["stateMachineArn"], name="run")
    assert is_running(run["executionArn"])
    client.stop_execution(executionArn=run["executionArn"])
    wait_for(lambda: not is_running(run["executionArn"]), "it was not stopped")


def test_a_glance_counts_the_keys_that_were_not_there_before(cloud: LocalCloud) -> None:
    s3 = cloud.client("s3")
    s3.create_bucket(Bucket="glanced")
    counts = [count_keys("glanced")]
    for key in ("a", "a/b", "a"):
        s3.put_object(Bucket="glanced", Key=key, Body=b"1")
        counts.append(count_keys("glanced"))
    assert counts == [0, 1, 2, 2]
