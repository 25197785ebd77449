"""The step that rolls out what closes the hole: a new image of a deployment.

A host is patched by the plan's own commands (`server.run`): which package, and whether the host
must start again, is known to who runs it.
"""

from __future__ import annotations

import json
import re
from typing import Any

from chalicelib.errors import NotReady
from chalicelib.evidence.entries import decision
from chalicelib.incidents.fence import acquire_fence
from chalicelib.incidents.run import Run
from chalicelib.plan.components import Service
from chalicelib.services import build
from chalicelib.services.steps.acting import acting_on
from chalicelib.services.steps.said import say
from chalicelib.services.steps.workloads.deployments import service_of, workload_of

Outputs = dict[str, Any]
# Of a step's 600 s: images that were never on these nodes.
ROLL_OUT_SECONDS = 540.0
IMAGE = "image"
# With a tag or a digest: without one nobody could say afterwards what was rolled out.
NAMED = re.compile(
    r"[a-z0-9][a-z0-9._/-]*(:[0-9]+/[a-z0-9._/-]+)?(:[\w][\w.-]*|@sha256:[0-9a-f]{64})"
)


def patch_step(run: Run, inputs: dict[str, Any]) -> Outputs:
    """Roll the image out and wait until every server runs it.

    Inputs: `image`: a person's answer may be one. Any other answer says that it was patched
    otherwise, and rolls nothing out.
    Raises: CheckFailed (code "rollout-stuck", "not-ready-in-time"), NotReady.
    """
    component, image = inputs["component"], str(inputs.get("image") or "").strip()
    if not NAMED.fullmatch(image):
        found = f"no image was named ({image or 'no answer'}): nothing is rolled out by Leeward"
        return {"found": found, "image": "", "ready": None}
    target = acting_on(run, component)
    manifest = manifest_of(target, service_of(target), image)
    acquire_fence(build.state(), target, run.run_id, clock=build.clock())
    build.state().create(f"run#{run.run_id}", f"{IMAGE}#{target}", {"manifest": manifest})
    workload = workload_of(target)
    what = f"roll {image} out on {target}"
    say(run, decision(what=what, why="it closes the hole; what ran before is kept"), about=target)
    workload.apply(manifest, keep=run.run_id, seconds=ROLL_OUT_SECONDS)
    standing = workload.status()
    return {
        "found": f"{image} runs on {standing.ready} of {standing.wanted} servers of {target}",
        "image": image,
        "ready": standing.ready,
    }


def undo_patch(run: Run, inputs: dict[str, Any]) -> Outputs:
    """What ran before runs again."""
    target = acting_on(run, inputs["component"])
    kept = build.state().get(f"run#{run.run_id}", f"{IMAGE}#{target}")
    if kept is None:
        return {"found": f"nothing was rolled out on {target}"}
    workload = workload_of(target)
    workload.put_back_manifests(kept["manifest"], keep=run.run_id)
    workload.wait_ready(ROLL_OUT_SECONDS / 2)
    return {"found": f"{target} runs what it ran before"}


def manifest_of(component: str, service: Service, image: str) -> str:
    """The part of a deployment that names its image, for a server-side apply.

    Raises NotReady (code "container-not-named"): a wrong name would add a second container.
    """
    if service.deployment is None or service.container is None or service.cluster is None:
        raise NotReady(
            f"expected the deployment and the container of {component} in the plan",
            hint="name both; applying an image to another name would add a container",
            code="container-not-named",
        )
    containers = [{"name": service.container, "image": image}]
    return json.dumps(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": service.deployment, "namespace": service.cluster.namespace},
            "spec": {"template": {"spec": {"containers": containers}}},
        }
    )
