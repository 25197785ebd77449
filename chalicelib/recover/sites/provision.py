"""Infrastructure made by Terraform in a build: what is to be done, and doing it once.

    decide_build -> find the build of this token -> none: start it -> wait -> outputs

The build service is the memory: a step that is repeated, minutes or an hour later and in another
worker, finds its build again by the token, so that there are never two. What does not end while
one worker can wait raises StillRunning; the state machine asks again.

Each environment has a Terraform workspace of its own, so that making one never changes another. A
drill's is named by its run; that alone may be destroyed.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from chalicelib.errors import CheckFailed, NotReady, Refused, StillRunning
from chalicelib.plan.components import Infrastructure
from chalicelib.ports.control import Clock
from chalicelib.ports.infrastructure import Build, BuildOrder, Builds

Action = Literal["apply", "destroy"]

DRILL_PREFIX = "drill-"
# Terraform's own limit is the length of an object key; what is named by it has less room.
WORKSPACE_CHARACTERS = 60
LOG_LINES = 20
# A step's outputs may be 32 KiB in all.
OUTPUT_CHARACTERS = 1_000
# The pause between two looks at a build, doubled up to the longest.
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.25, 8.0


@dataclass(frozen=True)
class TerraformBuild:
    """What a build is to do. `command`: the same, as a person would type it."""

    order: BuildOrder
    action: Action
    workspace: str
    command: str


@dataclass(frozen=True)
class Provisioned:
    """What a build that succeeded left. `outputs`: Terraform's, those that are not sensitive."""

    build: Build
    outputs: dict[str, Any]


def drill_workspace(run_id: str) -> str:
    """ "run-20261122T084500Z-dr" -> "drill-20261122t084500z-dr"; two runs never share one."""
    told = re.sub(r"[^a-z0-9]+", "-", run_id.lower().removeprefix("run-")).strip("-")
    whole = f"{DRILL_PREFIX}{told}"
    if len(whole) <= WORKSPACE_CHARACTERS:
        return whole
    digest = hashlib.sha256(run_id.encode()).hexdigest()[:8]
    return f"{whole[: WORKSPACE_CHARACTERS - 9]}-{digest}"


def decide_build(
    component: Infrastructure, *, run_id: str, step: str, drill: bool, action: Action = "apply"
) -> TerraformBuild:
    """The build that makes (or, of a drill, destroys) a component. Pure.

    The variable `environment` names the workspace; in a drill both are the run's.

    Raises:
        NotReady: codes "no-environment" and "no-outputs-address", when the plan lacks them.
        Refused: code "not-a-drill", when what is not a drill's is to be destroyed.
    """
    variables = dict(component.variables)
    if "environment" not in variables:
        raise NotReady(
            f"expected the variable `environment` of {component.project}, found "
            f"{', '.join(variables) or 'none'}",
            hint="add it under `variables`: it keeps the state of one environment from another's",
            code="no-environment",
        )
    if drill:
        variables["environment"] = drill_workspace(run_id)
    workspace = variables["environment"]
    if action == "destroy" and not (drill and workspace.startswith(DRILL_PREFIX)):
        raise Refused(
            f"the workspace {workspace} of {component.project} is not a drill's",
            hint=f"a person destroys it: terraform workspace select {workspace}; terraform destroy",
            code="not-a-drill",
        )
    arguments = [f"-var={name}={value}" for name, value in variables.items()]
    token = f"{run_id}/{step}" if action == "apply" else f"{run_id}/{step}/destroy"
    order = BuildOrder(
        project=component.project,
        token=token,
        environment=_environment(action, workspace, token, arguments),
        outputs=_outputs_address(component, workspace, token),
    )
    return TerraformBuild(order, action, workspace, shlex.join(["terraform", action, *arguments]))


def _environment(
    action: Action, workspace: str, token: str, arguments: list[str]
) -> Mapping[str, str]:
    """Terraform reads its arguments from variables of its own.

    Source: https://developer.hashicorp.com/terraform/cli/config/environment-variables
    """
    return {
        "LEEWARD_ACTION": action,
        "LEEWARD_BUILD": token,
        "LEEWARD_WORKSPACE": workspace,
        f"TF_CLI_ARGS_{action}": shlex.join(arguments),
        "TF_IN_AUTOMATION": "1",
        "TF_INPUT": "0",
    }


def _outputs_address(component: Infrastructure, workspace: str, token: str) -> tuple[str, str]:
    parts = urlsplit(component.outputs or "")
    if parts.scheme != "s3" or not parts.netloc:
        raise NotReady(
            f"expected the address of the outputs of {component.project}, s3://BUCKET/PREFIX, "
            f"found {component.outputs!r}",
            hint="name under `outputs` where its builds may write",
            code="no-outputs-address",
        )
    prefix = parts.path.strip("/")
    name = token.replace("/", ".")
    return parts.netloc, "/".join(it for it in (prefix, workspace, name, "outputs.json") if it)


def run_build(
    wanted: TerraformBuild, *, builds: Builds, clock: Clock, limit_seconds: float
) -> Provisioned:
    """Find or start the build and wait for its end.

    Raises:
        StillRunning: it goes on after `limit_seconds`; called again, this finds it again.
        CheckFailed: code "build-failed", with the end of its log.
        NotReady: code "no-build-project", "no-build-outputs".
    """
    order = wanted.order
    build = builds.find(order) or builds.start(order)
    ends_at, pause = clock.now().timestamp() + limit_seconds, FIRST_PAUSE_SECONDS
    while build.status == "running":
        if clock.now().timestamp() >= ends_at:
            raise StillRunning(
                f"build {build.id} is in phase {build.phase} after "
                f"{(clock.now() - build.started_at).total_seconds():.0f} s",
                hint="the step is tried again and waits for the same build",
                build=build.id,
            )
        clock.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
        build = builds.look(build.id)
    if build.status == "failed":
        raise _failed(wanted, build, builds.tail(build.id, LOG_LINES))
    outputs = shown_outputs(builds.outputs(order)) if wanted.action == "apply" else {}
    return Provisioned(build, outputs)


def _failed(wanted: TerraformBuild, build: Build, log: tuple[str, ...]) -> CheckFailed:
    return CheckFailed(
        f"expected `{wanted.command}` to succeed, build {build.id} failed in phase "
        f"{build.phase}: {build.why}",
        hint="its log ends in this error's context; Terraform's state holds what was made",
        code="build-failed",
        build=build.id,
        workspace=wanted.workspace,
        log=list(log),
    )


def shown_outputs(outputs: dict[str, Any]) -> dict[str, Any]:
    """`terraform output -json` as name to value; what is sensitive or long is left out, and said.

    Source: https://developer.hashicorp.com/terraform/cli/commands/output
    """
    return {name: _shown(output) for name, output in sorted(outputs.items())}


def _shown(output: dict[str, Any]) -> Any:
    if output.get("sensitive"):
        return "(sensitive)"
    value = output.get("value")
    length = len(json.dumps(value))
    return value if length <= OUTPUT_CHARACTERS else f"({length} characters)"
