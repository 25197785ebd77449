"""What the compiled state machines are made of runs in the local cloud as the language says."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from leeward.local.cloud import LocalCloud
from tests.clouds import NAMES, create_function, create_role, run_machine, wait_for

LAMBDA = "arn:aws:states:::lambda:invoke"


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalCloud]:
    with LocalCloud() as started:
        role = create_role(started, "any")
        for name in NAMES:
            create_function(started, name, role)
        yield started


def task(name: str, payload: Any, **more: Any) -> dict[str, Any]:
    parameters = {"FunctionName": f"app-test-{name}", "Payload": payload}
    return {"Type": "Task", "Resource": LAMBDA, "Parameters": parameters, "End": True, **more}


def output(result: dict[str, Any]) -> Any:
    assert result["status"] == "SUCCEEDED", result.get("cause")
    return json.loads(result["output"])


def test_a_result_is_selected_and_put_where_the_state_says(cloud: LocalCloud) -> None:
    state = task(
        "echo",
        {"run.$": "$.run.id", "retries.$": "$$.State.RetryCount"},
        ResultSelector={"outputs.$": "$.Payload.got"},
        ResultPath="$.steps.first",
    )
    result = output(run_machine(cloud, {"First": state}, {"run": {"id": "r1"}, "steps": {}}))
    assert result == {
        "run": {"id": "r1"},
        "steps": {"first": {"outputs": {"run": "r1", "retries": 0}}},
    }


def test_a_named_error_is_retried_with_backoff_and_jitter(cloud: LocalCloud) -> None:
    retry = {
        "ErrorEquals": ["Unavailable"],
        "IntervalSeconds": 1,
        "MaxAttempts": 3,
        "BackoffRate": 1.5,
        "MaxDelaySeconds": 60,
        "JitterStrategy": "FULL",
    }
    result = run_machine(cloud, {"Try": task("flaky", {"times": 2}, Retry=[retry])})
    assert result["status"] == "SUCCEEDED"


def test_an_error_without_retry_is_caught_with_its_name(cloud: LocalCloud) -> None:
    caught = {"ErrorEquals": ["States.ALL"], "ResultPath": "$.failure", "Next": "Recorder"}
    states = {
        "Fails": task("fail", {}, Catch=[caught]),
        "Recorder": {"Type": "Pass", "End": True},
    }
    failure = output(run_machine(cloud, states))["failure"]
    assert failure["Error"] == "Unavailable"
    assert json.loads(failure["Cause"])["errorMessage"] == "no answer"


def test_parallel_branches_run_together_and_one_failure_is_caught(cloud: LocalCloud) -> None:
    def branch(name: str, payload: Any) -> dict[str, Any]:
        selected = {"ResultSelector": {"said.$": "$.Payload"}, "ResultPath": f"$.steps.{name}"}
        return {"StartAt": name, "States": {name: task(name, payload, **selected)}}

    caught = {"ErrorEquals": ["States.ALL"], "ResultPath": "$.failure", "Next": "Recorder"}
    both = {
        "Type": "Parallel",
        "Branches": [branch("echo", {"n": 1}), branch("slow", {"seconds": 0.2})],
        "ResultSelector": {"first.$": "$[0].steps.echo", "second.$": "$[1].steps.slow"},
        "End": True,
    }
    result = output(run_machine(cloud, {"Both": both}, {"steps": {}}))
    assert result["first"]["said"]["got"] == {"n": 1}
    assert result["second"] == {"said": "done"}
    broken = both | {"Branches": [branch("echo", {}), branch("fail", {})], "Catch": [caught]}
    states = {"Both": broken, "Recorder": {"Type": "Pass", "End": True}}
    result = output(run_machine(cloud, states, {"steps": {}}))
    assert result["failure"]["Error"] == "Unavailable"


def test_a_choice_takes_the_way_that_its_input_names(cloud: LocalCloud) -> None:
    rule = {"Variable": "$.way", "StringEquals": "left", "Next": "Left"}
    states = {
        "Choose": {"Type": "Choice", "Choices": [rule], "Default": "Right"},
        "Left": {"Type": "Pass", "Result": "left", "ResultPath": "$.took", "End": True},
        "Right": {"Type": "Pass", "Result": "right", "ResultPath": "$.took", "End": True},
    }
    for way in ("left", "right"):
        assert output(run_machine(cloud, states, {"way": way}))["took"] == way


@pytest.mark.parametrize("ahead", [timedelta(seconds=1.6), timedelta(hours=-1)])
def test_a_state_waits_until_a_moment_and_not_shorter(cloud: LocalCloud, ahead: timedelta) -> None:
    began = datetime.now(UTC)
    moment = began + ahead
    wait = {"Type": "Wait", "TimestampPath": "$.at", "End": True}
    ended = run_machine(cloud, {"Wait": wait}, {"at": f"{moment:%Y-%m-%dT%H:%M:%S.%fZ}"})
    assert ended["status"] == "SUCCEEDED"
    assert max(moment, began) <= datetime.now(UTC) < max(moment, began) + timedelta(seconds=5)


def test_a_task_that_takes_too_long_is_a_timeout(cloud: LocalCloud) -> None:
    caught = {"ErrorEquals": ["States.Timeout"], "ResultPath": "$.failure", "Next": "Recorder"}
    states = {
        "Slow": task("slow", {"seconds": 5}, TimeoutSeconds=1, Catch=[caught]),
        "Recorder": {"Type": "Pass", "End": True},
    }
    assert output(run_machine(cloud, states))["failure"]["Error"] == "States.Timeout"


@pytest.mark.parametrize("answer", ["success", "failure"])
def test_a_state_waits_for_the_answer_that_carries_its_token(
    cloud: LocalCloud, answer: str
) -> None:
    before = cloud.logs("echo")
    caught = {"ErrorEquals": ["Refused"], "ResultPath": "$.failure", "Next": "Recorder"}
    ask = task("echo", {"token.$": "$$.Task.Token"}, TimeoutSeconds=20, Catch=[caught])
    ask["Resource"] += ".waitForTaskToken"
    states = {"Ask": ask, "Recorder": {"Type": "Pass", "End": True}}
    results: list[dict[str, Any]] = []
    run = threading.Thread(target=lambda: results.append(run_machine(cloud, states)))
    run.start()
    wait_for(lambda: "'token'" in cloud.logs("echo").removeprefix(before), "nobody was asked")
    token = cloud.logs("echo").removeprefix(before).split("'token': '")[1].split("'")[0]
    client = cloud.client("stepfunctions")
    if answer == "success":
        client.send_task_success(taskToken=token, output='{"by": "a person"}')
    else:
        client.send_task_failure(taskToken=token, error="Refused", cause="not now")
    run.join()
    if answer == "success":
        assert output(results[0]) == {"by": "a person"}
    else:
        assert output(results[0])["failure"]["Error"] == "Refused"


def tokens_asked(cloud: LocalCloud, mark: str) -> list[str]:
    return [
        line.split("'token': '")[1].split("'")[0]
        for line in cloud.logs("echo").splitlines()
        if f"'mark': '{mark}'" in line and "'token'" in line
    ]


def test_a_state_that_sees_no_sign_of_life_asks_again_and_hears_the_second_answer(
    cloud: LocalCloud,
) -> None:
    retry = {"ErrorEquals": ["States.HeartbeatTimeout", "States.Timeout"], "MaxAttempts": 3}
    retry |= {"IntervalSeconds": 1, "BackoffRate": 1.5}
    ask = task("echo", {"mark": "life", "token.$": "$$.Task.Token"}, TimeoutSeconds=600)
    ask |= {"Resource": f"{LAMBDA}.waitForTaskToken", "HeartbeatSeconds": 3, "Retry": [retry]}
    results: list[dict[str, Any]] = []
    run = threading.Thread(target=lambda: results.append(run_machine(cloud, {"Ask": ask})))
    run.start()
    client = cloud.client("stepfunctions")
    wait_for(lambda: len(tokens_asked(cloud, "life")) == 2, "nobody was asked again")
    first, second = tokens_asked(cloud, "life")
    with pytest.raises(client.exceptions.InvalidToken):
        client.send_task_heartbeat(taskToken=first)
    client.send_task_heartbeat(taskToken=second)
    client.send_task_success(taskToken=second, output='{"by": "the second"}')
    run.join()
    assert output(results[0]) == {"by": "the second"}
