"""Lambda in the local cloud behaves as Lambda in AWS where the application can tell."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator

import pytest
from botocore.exceptions import ClientError

from chalicelib.errors import NotReady
from leeward.local.cloud import LocalCloud
from leeward.local.iam import ACCOUNT
from leeward.local.runner import SHARED_BYTES
from tests.clouds import NAMES, create_function, create_role, invoke, run_machine, wait_for, zipped


@pytest.fixture(scope="module", params=["started anew", "forked"])
def cloud(request: pytest.FixtureRequest) -> Iterator[LocalCloud]:
    """Sandboxes of small zips are processes started anew, those of large ones are forked."""
    with LocalCloud() as started:
        role = create_role(started, "any")
        code = zipped(large=request.param == "forked")
        for name in NAMES:
            create_function(started, name, role, Code={"ZipFile": code})
        yield started


def test_a_sandbox_has_a_process_group_and_an_environment_of_its_own(cloud: LocalCloud) -> None:
    code = zipped(IDENTITY, large=len(cloud_code(cloud)) > SHARED_BYTES)
    role = cloud.client("iam").get_role(RoleName="any")["Role"]["Arn"]
    for name in ("who", "other"):
        create_function(
            cloud, name, role, Code={"ZipFile": code}, Handler="app.who",
            Environment={"Variables": {"SETTING": name}},
        )  # fmt: skip
    (first, _), (second, _) = invoke(cloud, "who", {}), invoke(cloud, "other", {})
    for found, name in ((first, "who"), (second, "other")):
        assert found["pid"] == found["group"]
        assert found["setting"] == name
        assert found["function"] == f"app-test-{name}"
        assert found["zone"] == ["UTC", "UTC"]
        assert found["encoding"] == "utf-8"
        assert found["descriptors"] <= 8
        assert found["imported"] == 1
    assert first["folder"] != second["folder"]
    assert first["random"] != second["random"]


def cloud_code(cloud: LocalCloud) -> bytes:
    from moto.awslambda.models import lambda_backends

    found = lambda_backends[ACCOUNT]["us-east-1"].get_function("app-test-echo")
    return bytes(found.code_bytes)


IDENTITY = """
import os, random, sys, time
times = 0
times += 1
def who(event, context):
    return {
        "pid": os.getpid(), "group": os.getpgrp(), "setting": os.environ["SETTING"],
        "function": os.environ["AWS_LAMBDA_FUNCTION_NAME"], "zone": time.tzname,
        "encoding": sys.stdout.encoding, "folder": os.environ["TMPDIR"],
        "descriptors": len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0,
        "imported": times, "random": random.random(),
    }
"""


def test_a_function_gets_its_event_region_and_environment(cloud: LocalCloud) -> None:
    payload, error = invoke(cloud, "echo", {"a": 1})
    assert error is None
    assert payload == {"got": {"a": 1}, "region": "us-east-1", "setting": "kept"}


def test_a_function_runs_in_the_region_where_it_was_created(cloud: LocalCloud) -> None:
    client = cloud.client("lambda", "us-west-2")
    role = cloud.client("iam").get_role(RoleName="any")["Role"]["Arn"]
    client.create_function(
        FunctionName="west", Role=role, Runtime="python3.11", Handler="app.echo",
        Code={"ZipFile": zipped()},
    )  # fmt: skip
    answer = json.load(client.invoke(FunctionName="west", Payload="{}")["Payload"])
    assert answer["region"] == "us-west-2"


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("fail", "Unavailable", "no answer"),
        ("leave", "Runtime.ExitError", "exit status 3"),
        ("unserialisable", "Runtime.MarshalError", "not JSON serializable"),
    ],
)
def test_errors_have_the_names_that_aws_gives(
    cloud: LocalCloud, name: str, kind: str, words: str
) -> None:
    payload, error = invoke(cloud, name, {})
    assert error == "Unhandled"
    assert payload["errorType"] == kind
    assert words in payload["errorMessage"]


@pytest.mark.parametrize(
    ("handler", "kind"),
    [
        ("absent.echo", "Runtime.ImportModuleError"),
        ("app.absent", "Runtime.HandlerNotFound"),
    ],
)
def test_a_handler_that_cannot_be_imported_is_named(
    cloud: LocalCloud, handler: str, kind: str
) -> None:
    role = cloud.client("iam").get_role(RoleName="any")["Role"]["Arn"]
    name = handler.replace(".", "-")
    create_function(cloud, name, role, Handler=handler)
    payload, error = invoke(cloud, name, {})
    assert (error, payload["errorType"]) == ("Unhandled", kind)


def test_a_timeout_ends_the_sandbox_with_its_children(cloud: LocalCloud) -> None:
    cloud.client("lambda").update_function_configuration(FunctionName="app-test-slow", Timeout=1)
    payload, error = invoke(cloud, "slow", {"seconds": 30})
    cloud.client("lambda").update_function_configuration(FunctionName="app-test-slow", Timeout=10)
    assert (error, payload["errorType"]) == ("Unhandled", "Sandbox.Timedout")
    child = int(cloud.logs("slow").rpartition("child ")[2].split()[0])
    wait_for(lambda: not runs(child), "the child outlived its sandbox")


def test_a_killed_sandbox_is_retried_by_step_functions(cloud: LocalCloud) -> None:
    killed: list[int] = []
    killer = threading.Thread(target=lambda: killed.append(cloud.kill_worker("slow")))
    killer.start()
    retry = {"ErrorEquals": ["Runtime.ExitError"], "IntervalSeconds": 1, "MaxAttempts": 1}
    task = {
        "Type": "Task",
        "Resource": "arn:aws:states:::lambda:invoke",
        "Parameters": {"FunctionName": "app-test-slow", "Payload": {"seconds": 0.5}},
        "Retry": [retry],
        "ResultSelector": {"said.$": "$.Payload"},
        "End": True,
    }
    result = run_machine(cloud, {"Work": task})
    killer.join()
    assert killed
    assert not runs(killed[0])
    assert (result["status"], json.loads(result["output"])) == ("SUCCEEDED", {"said": "done"})


def test_killing_a_function_that_does_not_run_says_so(cloud: LocalCloud) -> None:
    with pytest.raises(NotReady) as caught:
        cloud.kill_worker("echo", wait_seconds=0.1)
    assert caught.value.instance_code == "no-sandbox"


def test_the_log_holds_what_was_printed_between_start_and_report(cloud: LocalCloud) -> None:
    invoke(cloud, "echo", {"print": "this"})
    lines = cloud.logs("echo").splitlines()
    printed = next(i for i, line in enumerate(lines) if "'print': 'this'" in line)
    assert lines[printed - 1].startswith("START RequestId: ")
    assert lines[printed + 1].startswith("END RequestId: ")
    assert lines[printed + 2].startswith("REPORT RequestId: ")


def test_a_sandbox_stays_warm_and_new_code_gets_a_new_one(cloud: LocalCloud) -> None:
    role = cloud.client("iam").get_role(RoleName="any")["Role"]["Arn"]
    create_function(cloud, "pid", role, Code={"ZipFile": zipped(PID)}, Handler="app.pid")
    first, again = invoke(cloud, "pid", {}), invoke(cloud, "pid", {})
    cloud.client("lambda").update_function_code(
        FunctionName="app-test-pid", ZipFile=zipped(PID + "# new\n")
    )
    assert first == again
    assert invoke(cloud, "pid", {}) != first


PID = "import os\ndef pid(event, context):\n    return os.getpid()\n"


def test_invocations_at_the_same_time_have_sandboxes_of_their_own(cloud: LocalCloud) -> None:
    threads = [
        threading.Thread(target=invoke, args=(cloud, "slow", {"seconds": 2})) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(cloud.runner.running("slow")) == 3, "they did not run at the same time")
    for thread in threads:
        thread.join()


def test_beyond_the_reserved_concurrency_the_caller_is_throttled(cloud: LocalCloud) -> None:
    client = cloud.client("lambda")
    client.put_function_concurrency(FunctionName="app-test-slow", ReservedConcurrentExecutions=1)
    thread = threading.Thread(target=invoke, args=(cloud, "slow", {"seconds": 1}))
    thread.start()
    wait_for(lambda: cloud.runner.running("slow"), "it did not start")
    with pytest.raises(ClientError) as caught:
        invoke(cloud, "slow", {"seconds": 0})
    thread.join()
    client.delete_function_concurrency(FunctionName="app-test-slow")
    assert caught.value.response["Error"]["Code"] == "TooManyRequestsException"


def test_an_asynchronous_event_is_tried_three_times_then_counted_as_lost(
    cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leeward.local.runner.RETRY_SECONDS", (0.01, 0.01))
    for name, event in (("flaky", {"times": 3}), ("fail", {"which": "lost"})):
        answer = cloud.client("lambda").invoke(
            FunctionName=f"app-test-{name}", InvocationType="Event", Payload=json.dumps(event)
        )
        assert answer["StatusCode"] == 202
    assert cloud.wait_idle(20)
    assert "reached after 3" in cloud.logs("flaky")
    assert ("app-test-fail", {"which": "lost"}, "no answer") in cloud.lost


def runs(pid: int) -> bool:
    """False for a zombie too."""
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except FileNotFoundError:
        return not os.path.isdir("/proc/self")
