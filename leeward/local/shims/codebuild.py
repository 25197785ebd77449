"""CodeBuild: builds run (leeward/local/builds.py) and are told of as they are.

moto says of every build that it succeeded, at once, and ignores the variables of a call and its
idempotency token. Here the token is kept for five minutes, as AWS keeps it: the same token with
other parameters is refused.
Source: https://docs.aws.amazon.com/codebuild/latest/APIReference/API_StartBuild.html
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from moto.codebuild.exceptions import InvalidInputException, ResourceNotFoundException
from moto.codebuild.responses import CodeBuildResponse
from moto.core.responses import ActionResult

from leeward.local.builds import Builder, Order, Running
from leeward.local.shims import replaced

if TYPE_CHECKING:
    from leeward.local.cloud import LocalCloud

TOKEN_SECONDS = 300.0
DEFAULT_MINUTES = 60
PAGE = 100


class Projects:
    """The builds of this cloud, newest last, by region."""

    def __init__(self, cloud: LocalCloud) -> None:
        self.builder = Builder(cloud)
        self.builds: dict[tuple[str, str], Running] = {}
        self.told: dict[str, dict[str, Any]] = {}
        self._tokens: dict[tuple[str, str], tuple[float, str, str]] = {}
        self._lock = threading.Lock()

    def start(self, region: str, project: dict[str, Any], given: dict[str, Any]) -> Running:
        with self._lock:
            token, asked = given.get("idempotencyToken"), json.dumps(given, sort_keys=True)
            known = self._tokens.get((region, token)) if token else None
            if known and time.monotonic() - known[0] < TOKEN_SECONDS:
                if known[2] != asked:
                    raise InvalidInputException("The idempotency token has other parameters")
                return self.builds[region, known[1]]
            build = self.builder.start(_order(region, project, given), project["name"])
            self.builds[region, build.order.id] = build
            self.told[build.order.id] = {"project": project, "given": given}
            if token:
                self._tokens[region, token] = (time.monotonic(), build.order.id, asked)
            return build

    def of_project(self, region: str, name: str) -> list[str]:
        """Newest first."""
        ids = [identity for place, identity in self.builds if place == region]
        return [it for it in reversed(ids) if it.partition(":")[0] == name]

    def describe(self, build: Running) -> dict[str, Any]:
        told = self.told[build.order.id]
        project, given = told["project"], told["given"]
        environment = project["environment"] | {
            "environmentVariables": _variables(project, given),
        }
        found = {
            "id": build.order.id,
            "projectName": project["name"],
            "buildStatus": build.status,
            "buildComplete": build.done.is_set(),
            "currentPhase": build.phase,
            "phases": [dict(it) for it in build.phases],
            "startTime": build.started_at.timestamp(),
            "environment": environment,
            "artifacts": {"location": given.get("artifactsOverride", {}).get("location", "")},
            "logs": {"groupName": build.group, "streamName": build.stream},
            "timeoutInMinutes": _minutes(project),
        }
        return found | ({"endTime": build.ended_at.timestamp()} if build.ended_at else {})


@contextmanager
def install(cloud: LocalCloud) -> Iterator[None]:
    projects = Projects(cloud)

    def start_build(self: CodeBuildResponse) -> ActionResult:
        name = self._get_param("projectName")
        found = self.codebuild_backend.codebuild_projects.get(name)
        if found is None:
            raise ResourceNotFoundException(f"Project cannot be found: {name}")
        given = json.loads(self.body)
        build = projects.start(self.region, found.project_metadata, given)
        return ActionResult({"build": projects.describe(build)})

    def batch_get_builds(self: CodeBuildResponse) -> ActionResult:
        ids = self._get_param("ids")
        found = [projects.builds.get((self.region, it)) for it in ids]
        return ActionResult({"builds": [projects.describe(it) for it in found if it]})

    def list_builds_for_project(self: CodeBuildResponse) -> ActionResult:
        name = self._get_param("projectName")
        if name not in self.codebuild_backend.codebuild_projects:
            raise ResourceNotFoundException(f"The provided project {name} does not exist")
        ids = projects.of_project(self.region, name)
        newest_first = self._get_param("sortOrder") != "ASCENDING"
        return ActionResult({"ids": (ids if newest_first else ids[::-1])[:PAGE]})

    def stop_build(self: CodeBuildResponse) -> ActionResult:
        found = projects.builds.get((self.region, self._get_param("id")))
        if found is None:
            raise ResourceNotFoundException("the build does not exist")
        projects.builder.stop(found)
        return ActionResult({"build": projects.describe(found)})

    with ExitStack() as stack:
        for method in (start_build, batch_get_builds, list_builds_for_project, stop_build):
            stack.enter_context(replaced(CodeBuildResponse, method.__name__, _always(method)))
        yield


def _always(method: Any) -> Callable[[Any], Any]:
    return lambda _original: method


def _order(region: str, project: dict[str, Any], given: dict[str, Any]) -> Order:
    source = project["source"]
    return Order(
        id=f"{project['name']}:{uuid.uuid4()}",
        region=region,
        source=source["location"] if source["type"] == "S3" else "",
        buildspec=given.get("buildspecOverride") or source.get("buildspec", ""),
        environment={it["name"]: it["value"] for it in _variables(project, given)},
        artifacts=given.get("artifactsOverride") or project["artifacts"],
        limit_seconds=_minutes(project) * 60.0,
    )


def _variables(project: dict[str, Any], given: dict[str, Any]) -> list[dict[str, str]]:
    """The project's, and over them the call's."""
    own = project["environment"].get("environmentVariables", [])
    both = {it["name"]: it for it in [*own, *given.get("environmentVariablesOverride", [])]}
    return list(both.values())


def _minutes(project: dict[str, Any]) -> float:
    return float(project.get("timeoutInMinutes") or DEFAULT_MINUTES)
