"""Tasks on AWS Fargate: one for a run that needs more than a Lambda has.

A task is known by `startedBy`, which is the digest of its run's id: the id may be longer than ECS
takes (128 characters).
Source: RunTask, ListTasks, Amazon ECS API Reference.
"""

from __future__ import annotations

import hashlib
from typing import Any

from botocore.exceptions import ClientError

from chalicelib.adapters.aws_errors import error_code, mapped
from chalicelib.errors import NotReady, Unavailable

# The name by which the container is overridden (leeward/packaging/tasks.py).
CONTAINER = "leeward"
RUN_VARIABLE = "LEEWARD_RUN"
ABSENT = frozenset({"ClusterNotFoundException", "InvalidParameterException", "ClientException"})


class FargateWorkers:
    """The `Workers` port.

    Args:
        name: of the cluster, and of the family of task definitions.
        network: "subnets" and "securityGroups", and "assignPublicIp" (ENABLED, DISABLED).
    """

    def __init__(self, client: Any, name: str, network: dict[str, Any]) -> None:
        self._client = client
        self._name = name
        self._network = network

    def start(self, run_id: str) -> None:
        variables = [{"name": RUN_VARIABLE, "value": run_id}]
        answer = self._run_task(
            cluster=self._name,
            taskDefinition=self._name,
            launchType="FARGATE",
            startedBy=_mark(run_id),
            networkConfiguration={"awsvpcConfiguration": self._network},
            overrides={"containerOverrides": [{"name": CONTAINER, "environment": variables}]},
        )
        if not answer["tasks"]:
            reasons = sorted({it.get("reason", "unknown") for it in answer["failures"]})
            raise Unavailable(
                f"expected a task of {self._name} to start, found {', '.join(reasons)}",
                hint="it is tried again; look at the account's Fargate quota",
                code="task-not-started",
            )

    def is_there(self, run_id: str) -> bool:
        with mapped("ecs", cluster=self._name):
            listed = self._client.list_tasks(cluster=self._name, startedBy=_mark(run_id))
        return bool(listed["taskArns"])

    def _run_task(self, **request: Any) -> dict[str, Any]:
        with mapped("ecs", cluster=self._name):
            try:
                return dict(self._client.run_task(**request))
            except ClientError as error:
                if error_code(error) in ABSENT:
                    raise NotReady(
                        f"expected the tasks of {self._name}, ECS says {error}",
                        hint="deploy the packaged template with subnets that exist for tasks",
                        code="no-task",
                    ) from error
                raise


def _mark(run_id: str) -> str:
    return hashlib.sha256(run_id.encode()).hexdigest()[:36]
