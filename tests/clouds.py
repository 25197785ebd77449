"""A small application in a local cloud, for the tests of the cloud itself."""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Callable
from typing import Any

from leeward.local.cloud import LocalCloud
from leeward.local.glance import is_running
from leeward.local.runner import SHARED_BYTES

CODE = '''
import os, subprocess, time

class Unavailable(Exception):
    pass

def echo(event, context):
    print("echo", event)
    return {"got": event, "region": os.environ["AWS_REGION"], "setting": os.environ.get("SETTING")}

def fail(event, context):
    raise Unavailable("no answer")

def slow(event, context):
    child = subprocess.Popen(["sleep", "60"])
    print("child", child.pid)
    time.sleep(event["seconds"])
    return "done"

def leave(event, context):
    os._exit(3)

def unserialisable(event, context):
    return {1, 2}

def flaky(event, context):
    """Fails until it was called `times` times; the disk of the sandbox remembers."""
    path = os.path.join(os.environ["TMPDIR"], "calls")
    with open(path, "a") as file:
        file.write("x")
    if os.path.getsize(path) < event["times"]:
        raise Unavailable("not yet")
    print("reached after", os.path.getsize(path))

def remember(event, context):
    import boto3
    table = boto3.client("dynamodb")
    table.put_item(TableName=event["table"], Item={"pk": {"S": event["key"]}})
    return table.get_item(TableName=event["table"], Key={"pk": {"S": event["key"]}})["Item"]
'''
SHORTEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.02, 0.25
NAMES = ("echo", "fail", "slow", "leave", "unserialisable", "flaky")


def zipped(code: str = CODE, *, large: bool = False) -> bytes:
    """`large`: so that clouds share it and sandboxes are forked; always the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("app.py"), code)
        if large:
            archive.writestr(zipfile.ZipInfo("data"), bytes(SHARED_BYTES))
    return buffer.getvalue()


def create_role(cloud: LocalCloud, name: str, *statements: dict[str, Any]) -> str:
    iam = cloud.client("iam")
    role: str = iam.create_role(RoleName=name, AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    if not statements:
        return role
    document = {"Version": "2012-10-17", "Statement": list(statements)}
    iam.put_role_policy(RoleName=name, PolicyName="own", PolicyDocument=json.dumps(document))
    return role


def create_function(cloud: LocalCloud, name: str, role: str, **more: Any) -> str:
    """Create `app-test-<name>`; returns its ARN."""
    defaults = {
        "Runtime": "python3.11",
        "Role": role,
        "Handler": f"app.{name}",
        "Code": {"ZipFile": zipped()},
        "Timeout": 10,
        "Environment": {"Variables": {"SETTING": "kept"}},
    }
    made = cloud.client("lambda").create_function(
        FunctionName=f"app-test-{name}", **(defaults | more)
    )
    return str(made["FunctionArn"])


def invoke(cloud: LocalCloud, name: str, event: Any) -> tuple[Any, str | None]:
    """(payload, FunctionError) of a synchronous invocation."""
    answer = cloud.client("lambda").invoke(
        FunctionName=f"app-test-{name}", Payload=json.dumps(event)
    )
    return json.load(answer["Payload"]), answer.get("FunctionError")


def run_machine(cloud: LocalCloud, states: dict[str, Any], start: Any = None) -> dict[str, Any]:
    """Create a machine from its states (the first one starts), run it to its end."""
    client = cloud.client("stepfunctions")
    definition = {"StartAt": next(iter(states)), "States": states}
    name = f"m{time.monotonic_ns()}"
    arn = client.create_state_machine(
        name=name, definition=json.dumps(definition), roleArn="arn:aws:iam::123456789012:role/any"
    )["stateMachineArn"]
    run = client.start_execution(stateMachineArn=arn, name="run", input=json.dumps(start or {}))
    return wait_for(lambda: ended(cloud, run["executionArn"]), "the execution did not end")


def ended(cloud: LocalCloud, execution: str) -> dict[str, Any] | None:
    """What Step Functions says of it once it is over."""
    if is_running(execution):
        return None
    client = cloud.client("stepfunctions", execution.split(":")[3])
    found: dict[str, Any] = client.describe_execution(executionArn=execution)
    return found


def wait_for(probe: Callable[[], Any], why: str, *, seconds: float = 20.0) -> Any:
    """The first true value of `probe`; fails the test with `why` when there is none in time.

    Looks less often the longer it waits: asking a cloud costs processor time that it lacks itself.
    """
    begun = time.monotonic()
    while (waited := time.monotonic() - begun) < seconds:
        if found := probe():
            return found
        time.sleep(min(max(waited / 20, SHORTEST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS))
    raise AssertionError(why)
