"""Tokens of Step Functions and secrets of people, against the local AWS."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from chalicelib.adapters.kms_mac import KmsMac
from chalicelib.adapters.kms_vault import KmsVault
from chalicelib.adapters.step_tokens import StepTokens
from chalicelib.errors import Damaged
from leeward.local.cloud import LocalCloud
from tests.clouds import create_function, create_role, ended, wait_for, zipped

ASK = """
def ask(event, context):
    print("TOKEN", event["name"], event["token"])
"""


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalCloud]:
    with LocalCloud(schedules=False) as running:
        role = create_role(running, "any")
        create_function(running, "ask", role, Code={"ZipFile": zipped(ASK)}, Timeout=60)
        yield running


class Waiting:
    """An execution that waits for a token, for at most `seconds`."""

    def __init__(self, cloud: LocalCloud, name: str, seconds: int = 60) -> None:
        self.cloud = cloud
        state = {
            "Type": "Task",
            "Resource": "arn:aws:states:::lambda:invoke.waitForTaskToken",
            "Parameters": {
                "FunctionName": "app-test-ask",
                "Payload": {"name": name, "token.$": "$$.Task.Token"},
            },
            "TimeoutSeconds": seconds,
            "End": True,
        }
        client = cloud.client("stepfunctions")
        machine = client.create_state_machine(
            name=name,
            definition=json.dumps({"StartAt": "Wait", "States": {"Wait": state}}),
            roleArn="arn:aws:iam::123456789012:role/any",
        )
        started = client.start_execution(stateMachineArn=machine["stateMachineArn"], name="run")
        self.execution = started["executionArn"]
        self.token = str(wait_for(lambda: self._token(name), "nobody was asked", seconds=60))

    def _token(self, name: str) -> str | None:
        found = re.search(rf"TOKEN {name} (\S+)", self.cloud.logs("ask"))
        return found[1] if found else None

    def ended(self) -> dict[str, Any]:
        found: dict[str, Any] = wait_for(
            lambda: ended(self.cloud, self.execution), "it did not end", seconds=60
        )
        return found


def test_a_token_lets_its_state_go_on_once(cloud: LocalCloud) -> None:
    tokens, one = StepTokens(cloud.client("stepfunctions")), Waiting(cloud, "once")
    assert tokens.succeed(one.token, {"answer": "approved"})
    done = one.ended()
    assert (done["status"], json.loads(done["output"])) == ("SUCCEEDED", {"answer": "approved"})
    assert not tokens.succeed(one.token, {"answer": "approved"})


def test_a_decline_fails_the_state_with_its_reason(cloud: LocalCloud) -> None:
    tokens, one = StepTokens(cloud.client("stepfunctions")), Waiting(cloud, "declined")
    assert tokens.fail(one.token, "Declined", "x" * 40_000)
    done = one.ended()
    assert (done["status"], done["error"]) == ("FAILED", "Declined")


def test_a_token_whose_state_timed_out_is_dead(cloud: LocalCloud) -> None:
    tokens, one = StepTokens(cloud.client("stepfunctions")), Waiting(cloud, "late", seconds=3)
    assert one.ended()["status"] in ("FAILED", "TIMED_OUT")
    assert not tokens.succeed(one.token, {"answer": "approved"})
    assert not tokens.succeed("no token at all", {})


def test_a_secret_opens_for_its_person_alone(cloud: LocalCloud) -> None:
    client = cloud.client("kms")
    vault = KmsVault(client, client.create_key()["KeyMetadata"]["KeyId"])
    closed = vault.close(b"JBSWY3DPEHPK3PXP", "cto")
    assert "JBSWY3DPEHPK3PXP" not in closed
    assert vault.open(closed, "cto") == b"JBSWY3DPEHPK3PXP"
    with pytest.raises(Damaged) as error:
        vault.open(closed, "ceo")
    assert error.value.instance_code == "factor-unreadable"
    assert "enrol" in error.value.hint


def test_a_mac_holds_for_its_message_and_key_alone(cloud: LocalCloud) -> None:
    client = cloud.client("kms")
    one, other = (
        KmsMac(client, client.create_key(KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC")
               ["KeyMetadata"]["KeyId"])
        for _ in range(2)
    )  # fmt: skip
    mac = one.make(b"a message")
    assert one.holds(b"a message", mac)
    assert not one.holds(b"another message", mac)
    assert not one.holds(b"a message", mac[::-1])
    assert not other.holds(b"a message", mac)
    assert not one.holds(b"a message", b"")
    assert not one.holds(b"", mac)
    assert not one.holds(b"x" * 5000, mac)
