"""The step that makes a site's infrastructure, and what takes it back after a drill."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chalicelib.errors import BadInput
from chalicelib.evidence.entries import decision
from chalicelib.incidents.fence import acquire_fence
from chalicelib.incidents.run import Run
from chalicelib.plan.components import Infrastructure
from chalicelib.recover.sites.provision import (
    Action,
    Provisioned,
    TerraformBuild,
    decide_build,
    run_build,
)
from chalicelib.services import build
from chalicelib.services.steps.acting import acting_on
from chalicelib.services.steps.said import say

if TYPE_CHECKING:
    from chalicelib.ports.infrastructure import Builds

Outputs = dict[str, Any]

# Of the function's 900 s: what it waits for a build before the state machine asks again.
WAIT_SECONDS = 840.0
FOUND_CHARACTERS = 300


def provision_step(run: Run, inputs: Outputs) -> Outputs:
    """Apply the component's Terraform; see recover/sites/provision.py for what a repetition finds.

    Raises Fenced while another run makes the same site.
    """
    name = acting_on(run, inputs["component"])
    acquire_fence(build.state(), name, run.run_id, clock=build.clock())
    wanted = _decide(run, name, "apply")
    made = _make(run, name, wanted)
    seconds = (made.build.ended_at or build.clock().now()) - made.build.started_at
    told = ", ".join(f"{key} {value}" for key, value in made.outputs.items())
    return {
        "found": f"{name} stands as {wanted.workspace} after {seconds.total_seconds():.0f} s"
        f" of Terraform: {told}"[:FOUND_CHARACTERS],
        "build": made.build.id,
        "workspace": wanted.workspace,
        "outputs": made.outputs,
    }


def undo_provision(run: Run, inputs: Outputs) -> Outputs:
    """Destroy what a drill made. Raises Refused (code "not-a-drill") for anything else."""
    name = acting_on(run, inputs["component"])
    wanted = _decide(run, name, "destroy")
    made = _make(run, name, wanted)
    return {"found": f"{wanted.workspace} of {name} is destroyed", "build": made.build.id}


def _decide(run: Run, name: str, action: Action) -> TerraformBuild:
    return decide_build(
        _component(name), run_id=run.run_id, step=run.step, drill=run.drill, action=action
    )


def _make(run: Run, name: str, wanted: TerraformBuild) -> Provisioned:
    say(run, decision(what=wanted.command, why=f"{name}, in its workspace {wanted.workspace}"))
    return run_build(wanted, builds=_builds(name), clock=build.clock(), limit_seconds=WAIT_SECONDS)


def _component(name: str) -> Infrastructure:
    found = build.plan().components[name]
    if not isinstance(found, Infrastructure):
        raise BadInput(
            f"expected infrastructure, {name} is a component of kind {found.kind}",
            hint="name a component of kind infrastructure in the step",
            code="unknown-component",
        )
    return found


def _builds(name: str) -> Builds:
    from chalicelib.adapters.codebuild import CodeBuilds

    component = _component(name)
    site = build.plan().sites.get(component.site or "")
    region = component.region or (site.region if site else None) or ""
    return CodeBuilds(*(build.client(it, region) for it in ("codebuild", "logs", "s3")))
