"""The local ECS: a task's command really runs, with what it is given, and ends as on Fargate."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chalicelib.adapters.fargate import FargateWorkers
from chalicelib.errors import NotReady
from leeward.local.cloud import LocalCloud
from tests.clouds import create_role, wait_for

NETWORK = {"subnets": ["subnet-1"], "securityGroups": ["sg-1"], "assignPublicIp": "DISABLED"}
REGION = [{"name": "AWS_REGION", "value": "us-east-1"}]
REGION += [{"name": "AWS_DEFAULT_REGION", "value": "us-east-1"}]
RUN = "run-20261122T084500Z-nexus-db"
SAYS = """
import os, sys
print("run", os.environ["LEEWARD_RUN"], os.environ["COLOUR"], os.environ["AWS_EXECUTION_ENV"])
open("on-my-disk", "w").write("x")
sys.exit(7)
"""
WAITS = """
import signal, time
signal.signal(signal.SIGTERM, {handler})
print("ready", flush=True)
while True:
    time.sleep(0.1)
"""
ASKS = """
import boto3
print(boto3.client("sts").get_caller_identity()["Account"])
try:
    boto3.client("s3").list_buckets()
except Exception as error:
    print(type(error).__name__, error.response["Error"]["Code"])
"""


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalCloud]:
    with LocalCloud() as started:
        yield started


def deploy(cloud: LocalCloud, name: str, script: str, role: str = "none", **more: Any) -> None:
    client = cloud.client("ecs")
    client.create_cluster(clusterName=name)
    container = {
        "name": "leeward",
        "image": "python",
        "entryPoint": ["python3", "-c"],
        "command": [script],
        "environment": [{"name": "COLOUR", "value": "blue"}],
        "logConfiguration": {
            "logDriver": "awslogs",
            "options": {"awslogs-group": f"/aws/ecs/{name}", "awslogs-stream-prefix": "it"},
        },
    }
    client.register_task_definition(
        family=name,
        networkMode="awsvpc",
        memory="512",
        cpu="256",
        taskRoleArn=role,
        containerDefinitions=[container | more],
    )


def workers(cloud: LocalCloud, name: str) -> FargateWorkers:
    return FargateWorkers(cloud.client("ecs"), name, NETWORK)


def described(cloud: LocalCloud, name: str) -> dict[str, Any]:
    client = cloud.client("ecs")
    [task] = [it for it in cloud.tasks.all if it.cluster == name]
    [found] = client.describe_tasks(cluster=name, tasks=[task.arn])["tasks"]
    return dict(found)


def ended(cloud: LocalCloud, name: str) -> dict[str, Any]:
    wait_for(lambda: described(cloud, name)["lastStatus"] == "STOPPED", "it runs", seconds=120)
    return described(cloud, name)


def log(cloud: LocalCloud, name: str) -> str:
    client = cloud.client("logs")
    try:
        found = client.filter_log_events(logGroupName=f"/aws/ecs/{name}")["events"]
    except client.exceptions.ResourceNotFoundException:
        return ""
    return "".join(it["message"] for it in found)


def test_a_task_runs_its_command_with_its_environment_and_the_run_s(cloud: LocalCloud) -> None:
    deploy(cloud, "says", SAYS)
    workers(cloud, "says").start(RUN)
    found = ended(cloud, "says")
    assert (found["stopCode"], found["containers"][0]["exitCode"]) == (
        "EssentialContainerExited",
        7,
    )
    assert f"run {RUN} blue AWS_ECS_FARGATE" in log(cloud, "says")
    assert not workers(cloud, "says").is_there(RUN)
    assert not list((cloud.folder / "tasks").glob("*/on-my-disk")), "its disk is gone with it"


def test_one_that_is_stopped_may_end_in_order(cloud: LocalCloud) -> None:
    deploy(cloud, "polite", WAITS.format(handler="lambda *_: exit(143)"))
    workers(cloud, "polite").start(RUN)
    assert workers(cloud, "polite").is_there(RUN)
    assert not workers(cloud, "polite").is_there("run-20261122T084500Z-another")
    wait_for(lambda: "ready" in log(cloud, "polite"), "it never began", seconds=120)
    client = cloud.client("ecs")
    client.stop_task(cluster="polite", task=described(cloud, "polite")["taskArn"], reason="why not")
    assert not workers(cloud, "polite").is_there(RUN), "nobody counts on it any more"
    found = ended(cloud, "polite")
    assert (found["stopCode"], found["stoppedReason"]) == ("UserInitiated", "why not")
    assert found["containers"][0]["exitCode"] == 143


def test_one_that_does_not_listen_is_killed_after_its_time(cloud: LocalCloud) -> None:
    deploy(cloud, "deaf", WAITS.format(handler="signal.SIG_IGN"), stopTimeout=2)
    workers(cloud, "deaf").start(RUN)
    wait_for(lambda: "ready" in log(cloud, "deaf"), "it never began", seconds=120)
    [task] = [it for it in cloud.tasks.all if it.cluster == "deaf"]
    cloud.client("ecs").stop_task(cluster="deaf", task=task.id)
    found = ended(cloud, "deaf")
    assert found["containers"][0]["exitCode"] > 128
    with pytest.raises(ProcessLookupError):
        os.killpg(task.pid, signal.SIGTERM)


def test_it_has_the_rights_of_its_role_and_what_it_called_is_known(cloud: LocalCloud) -> None:
    allow = {"Effect": "Allow", "Action": "sts:GetCallerIdentity", "Resource": "*"}
    role = create_role(cloud, "tasks", allow)
    deploy(cloud, "asks", ASKS, role, environment=REGION)
    workers(cloud, "asks").start(RUN)
    ended(cloud, "asks")
    assert "AccessDenied AccessDenied" in log(cloud, "asks")
    assert [it.operation for it in cloud.calls("asks-task")] == ["GetCallerIdentity", "ListBuckets"]


def test_what_is_not_there_is_said(cloud: LocalCloud) -> None:
    with pytest.raises(NotReady) as caught:
        workers(cloud, "nowhere").start(RUN)
    assert caught.value.instance_code == "no-task"
    client = cloud.client("ecs")
    with pytest.raises(client.exceptions.ClusterNotFoundException):
        client.list_tasks(cluster="nowhere")


def test_the_deployed_command_refuses_code_that_is_not_what_was_packaged(
    cloud: LocalCloud, tmp_path: Path
) -> None:
    script = (Path(__file__).parents[2] / "leeward" / "packaging" / "task_start.py").read_text()
    read = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::code/zip"}
    storage = cloud.client("s3")
    storage.create_bucket(Bucket="code")
    storage.put_object(Bucket="code", Key="zip", Body=b"somebody else's")
    role = create_role(cloud, "starts", read)
    named = {"BUCKET": "code", "KEY": "zip", "SHA256": "0" * 64}
    environment = [{"name": f"LEEWARD_CODE_{name}", "value": it} for name, it in named.items()]
    deploy(cloud, "starts", script, role, environment=environment)
    workers(cloud, "starts").start(RUN)
    assert ended(cloud, "starts")["containers"][0]["exitCode"] == 1
    assert "expected s3://code/zip to have the SHA-256 0000" in log(cloud, "starts")
    assert json.dumps([it.operation for it in cloud.calls("starts-task")]) == '["GetObject"]'
