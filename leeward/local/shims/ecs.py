"""ECS: clusters, task definitions for Fargate, and tasks that run (leeward/local/tasks.py).

Not moto's: that says of every task that it runs and starts nothing, and costs each start of a cloud
a second, as it brings in EC2 with all of its instance types. What is not known here is refused.
Source: https://docs.aws.amazon.com/AmazonECS/latest/APIReference/
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from werkzeug.wrappers import Request, Response

from leeward.local.iam import ACCOUNT
from leeward.local.tasks import Task
from leeward.local.wire import SCOPE

if TYPE_CHECKING:
    from leeward.local.cloud import LocalCloud

Body = dict[str, Any]
DISK_GIB = range(21, 201)


class EcsProblem(Exception):
    """`args`: the code and the words of ECS."""


class Ecs:
    """A WSGI application: the API of ECS in all regions of the cloud."""

    def __init__(self, cloud: LocalCloud) -> None:
        self._cloud = cloud
        self._clusters: set[tuple[str, str]] = set()
        self._definitions: dict[tuple[str, str], list[Body]] = {}
        self._lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        request = Request(environ)
        scope = SCOPE.search(request.headers.get("Authorization", ""))
        operation = request.headers.get("X-Amz-Target", "").rpartition(".")[2]
        serve = OPERATIONS.get(operation)
        status = 200
        try:
            if serve is None or scope is None:
                raise EcsProblem("InvalidAction", f"not known here: {operation}")
            with self._lock:
                answer = serve(self, scope[2], json.loads(request.get_data() or b"{}"))
        except EcsProblem as problem:
            code, message = problem.args
            status, answer = 400, {"__type": code, "message": message}
        body = json.dumps(answer)
        return Response(body, status, content_type="application/x-amz-json-1.1")(environ, start)

    def create_cluster(self, region: str, asked: Body) -> Body:
        name = asked.get("clusterName", "default")
        self._clusters.add((region, name))
        return {"cluster": {"clusterName": name, "clusterArn": _cluster_arn(region, name)}}

    def register_task_definition(self, region: str, asked: Body) -> Body:
        disk = asked.get("ephemeralStorage", {}).get("sizeInGiB", DISK_GIB[0])
        if disk not in DISK_GIB or asked.get("networkMode") != "awsvpc":
            raise EcsProblem("ClientException", "Fargate needs awsvpc, and 21 to 200 GiB of disk")
        made = self._definitions.setdefault((region, asked["family"]), [])
        arn = f"arn:aws:ecs:{region}:{ACCOUNT}:task-definition/{asked['family']}:{len(made) + 1}"
        made.append(asked | {"taskDefinitionArn": arn, "revision": len(made) + 1})
        return {"taskDefinition": made[-1]}

    def run_task(self, region: str, asked: Body) -> Body:
        cluster = self._cluster(region, asked)
        family = asked["taskDefinition"].rpartition("/")[2].partition(":")[0]
        found = self._definitions.get((region, family))
        if not found:
            raise EcsProblem("ClientException", "TaskDefinition not found.")
        if not asked.get("networkConfiguration", {}).get("awsvpcConfiguration", {}).get("subnets"):
            raise EcsProblem("InvalidParameterException", "subnets cannot be empty.")
        task = self._cloud.tasks.start(region, cluster, found[-1], asked)
        return {"tasks": [_describe(task)], "failures": []}

    def list_tasks(self, region: str, asked: Body) -> Body:
        wanted = asked.get("desiredStatus", "RUNNING")
        found = [
            task.arn
            for task in self._tasks(region, asked)
            if _desired(task) == wanted
            and task.given.get("startedBy") == asked.get("startedBy", task.given.get("startedBy"))
        ]
        return {"taskArns": found}

    def describe_tasks(self, region: str, asked: Body) -> Body:
        known = {key: it for it in self._tasks(region, asked) for key in (it.arn, it.id)}
        missing = [{"arn": it, "reason": "MISSING"} for it in asked["tasks"] if it not in known]
        found = [_describe(known[it]) for it in asked["tasks"] if it in known]
        return {"tasks": found, "failures": missing}

    def stop_task(self, region: str, asked: Body) -> Body:
        for task in self._tasks(region, asked):
            if asked["task"] in (task.arn, task.id):
                self._cloud.tasks.stop(task, asked.get("reason", "Task stopped by user"))
                return {"task": _describe(task)}
        raise EcsProblem("InvalidParameterException", "The referenced task was not found.")

    def _tasks(self, region: str, asked: Body) -> list[Task]:
        cluster = self._cluster(region, asked)
        return [it for it in self._cloud.tasks.all if (it.region, it.cluster) == (region, cluster)]

    def _cluster(self, region: str, asked: Body) -> str:
        name = str(asked.get("cluster", "default")).rpartition("/")[2]
        if (region, name) not in self._clusters:
            raise EcsProblem("ClusterNotFoundException", "Cluster not found.")
        return name


OPERATIONS: dict[str, Callable[[Ecs, str, Body], Body]] = {
    "CreateCluster": Ecs.create_cluster,
    "RegisterTaskDefinition": Ecs.register_task_definition,
    "RunTask": Ecs.run_task,
    "ListTasks": Ecs.list_tasks,
    "DescribeTasks": Ecs.describe_tasks,
    "StopTask": Ecs.stop_task,
}


def _cluster_arn(region: str, name: str) -> str:
    return f"arn:aws:ecs:{region}:{ACCOUNT}:cluster/{name}"


def _desired(task: Task) -> str:
    return "STOPPED" if task.stopping or task.ended.is_set() else "RUNNING"


def _describe(task: Task) -> Body:
    container: Body = {"name": task.container["name"], "lastStatus": task.status}
    told: Body = {
        "taskArn": task.arn,
        "clusterArn": _cluster_arn(task.region, task.cluster),
        "taskDefinitionArn": task.definition["taskDefinitionArn"],
        "launchType": task.given.get("launchType", "EC2"),
        "startedBy": task.given.get("startedBy", ""),
        "lastStatus": task.status,
        "desiredStatus": _desired(task),
        "createdAt": task.created_at,
        "containers": [container],
    }
    if task.ended.is_set():
        told |= {"stopCode": task.stop[0], "stoppedReason": task.stop[1]}
        if task.exit_code is not None:
            container["exitCode"] = task.exit_code
    return told
