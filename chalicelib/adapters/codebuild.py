"""Builds in AWS CodeBuild: started once for a token, found again by it, with log and outputs.

StartBuild's own idempotency token is forgotten after five minutes, so a build also carries the
token in its variable LEEWARD_BUILD, by which it is found among the project's newest builds.
Source: https://docs.aws.amazon.com/codebuild/latest/APIReference/API_StartBuild.html
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from chalicelib.adapters.aws_errors import error_code, mapped
from chalicelib.errors import NotReady, Throttled
from chalicelib.ports.infrastructure import Build, BuildOrder, BuildStatus

# BatchGetBuilds takes no more; a run's build is among its project's newest.
NEWEST_BUILDS = 100
TOKEN = "LEEWARD_BUILD"


class CodeBuilds:
    """Three clients of one region: CodeBuild, CloudWatch Logs, S3 (where the outputs lie)."""

    def __init__(self, codebuild: Any, logs: Any, s3: Any) -> None:
        self._codebuild = codebuild
        self._logs = logs
        self._s3 = s3

    def find(self, order: BuildOrder) -> Build | None:
        with _mapped(order.project):
            listed = self._codebuild.list_builds_for_project(
                projectName=order.project, sortOrder="DESCENDING"
            )
            ids = listed["ids"][:NEWEST_BUILDS]
            found = self._codebuild.batch_get_builds(ids=ids)["builds"] if ids else []
        mine = [it for it in found if _token_of(it) == order.token]
        return _build(max(mine, key=lambda it: it["startTime"])) if mine else None

    def start(self, order: BuildOrder) -> Build:
        bucket, key = order.outputs
        folder, _, _file = key.rpartition("/")
        path, _, name = folder.rpartition("/")
        with _mapped(order.project):
            answer = self._codebuild.start_build(
                projectName=order.project,
                idempotencyToken=_idempotency_token(order),
                environmentVariablesOverride=[
                    {"name": name, "value": value, "type": "PLAINTEXT"}
                    for name, value in order.environment.items()
                ],
                artifactsOverride={
                    "type": "S3",
                    "location": bucket,
                    "path": path,
                    "name": name,
                    "namespaceType": "NONE",
                    "packaging": "NONE",
                },
            )
        return _build(answer["build"])

    def look(self, build_id: str) -> Build:
        return _build(self._describe(build_id))

    def tail(self, build_id: str, lines: int) -> tuple[str, ...]:
        logs = self._describe(build_id).get("logs", {})
        if not logs.get("groupName") or not logs.get("streamName"):
            return ()
        with mapped("logs", build=build_id):
            try:
                answer = self._logs.get_log_events(
                    logGroupName=logs["groupName"],
                    logStreamName=logs["streamName"],
                    limit=lines,
                    startFromHead=False,
                )
            except ClientError as error:
                if error_code(error) != "ResourceNotFoundException":
                    raise
                return ()
        return tuple(event["message"].rstrip("\n") for event in answer["events"])

    def outputs(self, order: BuildOrder) -> dict[str, Any]:
        bucket, key = order.outputs
        with mapped("s3", bucket=bucket, key=key):
            try:
                body = self._s3.get_object(Bucket=bucket, Key=key)["Body"].read()
            except ClientError as error:
                if error_code(error) not in ("NoSuchKey", "NoSuchBucket", "404"):
                    raise
                raise _no_outputs(order, f"no object {key} in {bucket}") from error
        try:
            return dict(json.loads(body))
        except (ValueError, TypeError) as error:
            raise _no_outputs(order, f"no JSON object in {key}") from error

    def _describe(self, build_id: str) -> dict[str, Any]:
        with _mapped(build_id.partition(":")[0]):
            found = self._codebuild.batch_get_builds(ids=[build_id])["builds"]
        if not found:
            raise NotReady(
                f"expected the build {build_id}, CodeBuild knows none",
                hint="CodeBuild forgets a build after a year, or its project was deleted",
                code="no-build",
            )
        return dict(found[0])


@contextmanager
def _mapped(project: str) -> Iterator[None]:
    with mapped("codebuild", project=project):
        try:
            yield
        except ClientError as error:
            code = error_code(error)
            if code == "ResourceNotFoundException":
                raise NotReady(
                    f"expected the CodeBuild project {project}, found none of that name",
                    hint="make the project in the component's region (docs/infrastructure.md)",
                    code="no-build-project",
                ) from error
            if code == "AccountLimitExceededException":
                raise Throttled(
                    f"codebuild runs as many builds as the account may: {project}",
                    hint="it is tried again; ask AWS for more, or stop builds that can wait",
                    project=project,
                ) from error
            raise


def _idempotency_token(order: BuildOrder) -> str:
    return hashlib.sha256(f"{order.project} {order.token}".encode()).hexdigest()


def _token_of(build: dict[str, Any]) -> str | None:
    variables = build.get("environment", {}).get("environmentVariables", [])
    return next((it["value"] for it in variables if it["name"] == TOKEN), None)


def _build(found: dict[str, Any]) -> Build:
    ended = found.get("endTime")
    return Build(
        id=found["id"],
        status=_status(found["buildStatus"]),
        phase=found.get("currentPhase", ""),
        started_at=_utc(found["startTime"]),
        ended_at=_utc(ended) if ended else None,
        why=_why(found),
    )


def _status(status: str) -> BuildStatus:
    """FAILED, FAULT, TIMED_OUT and STOPPED are all ends that made no site."""
    if status == "IN_PROGRESS":
        return "running"
    return "succeeded" if status == "SUCCEEDED" else "failed"


def _why(found: dict[str, Any]) -> str:
    told = [
        f"{phase['phaseType']} {phase['phaseStatus']}: {context.get('message', '')}".strip(": ")
        for phase in found.get("phases", [])
        if phase.get("phaseStatus") not in (None, "SUCCEEDED")
        for context in phase.get("contexts") or [{}]
    ]
    return "; ".join(told) if found["buildStatus"] not in ("IN_PROGRESS", "SUCCEEDED") else ""


def _utc(at: datetime) -> datetime:
    return at.astimezone(UTC)


def _no_outputs(order: BuildOrder, why: str) -> NotReady:
    return NotReady(
        f"expected the outputs of {order.project}'s build, found {why}",
        hint="its buildspec must leave `terraform output -json` as the artifact outputs.json",
        code="no-build-outputs",
    )
