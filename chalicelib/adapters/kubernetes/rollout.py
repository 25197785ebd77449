"""How far a deployment is, as `kubectl rollout status` tells it, and why a pod does not serve.

Pure: reads the objects that it is given.
Source: k8s.io/kubectl, polymorphichelpers/rollout_status.go (DeploymentStatusViewer).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Object = dict[str, Any]

REVISION = "deployment.kubernetes.io/revision"
DEADLINE = "ProgressDeadlineExceeded"


def is_stuck(deployment: Object) -> bool:
    """The cluster has given the rollout up (spec.progressDeadlineSeconds)."""
    if not _is_observed(deployment):
        return False
    conditions = deployment.get("status", {}).get("conditions", ())
    return any(it["type"] == "Progressing" and it.get("reason") == DEADLINE for it in conditions)


def waits_for(deployment: Object) -> str:
    """What is not done yet, in one line; "" when the rollout is complete."""
    status = deployment.get("status", {})
    wanted = wanted_of(deployment)
    updated, available = status.get("updatedReplicas", 0), status.get("availableReplicas", 0)
    if not _is_observed(deployment):
        return "the cluster has not seen the change yet"
    if updated < wanted:
        return f"{updated} of {wanted} are of the newest revision"
    if status.get("replicas", 0) > updated:
        return f"{status['replicas'] - updated} of an old revision have not ended"
    if available < updated:
        return f"{available} of {updated} are available"
    return ""


def wanted_of(deployment: Object) -> int:
    """Kubernetes' own default is one."""
    return int(deployment["spec"].get("replicas", 1))


def revision_of(deployment: Object) -> str:
    return str(deployment["metadata"].get("annotations", {}).get(REVISION, ""))


def why_not_ready(pods: Iterable[Object]) -> list[str]:
    """ "api-7f-x2: CrashLoopBackOff, ended with 1 (Error), 3 restarts": each that does not serve.

    Those that fail come first, then those that only wait.
    """
    left = sorted(_left(pods), key=lambda pod: (not _fails(pod), pod["metadata"]["name"]))
    return [f"{pod['metadata']['name']}: {_why(pod)}" for pod in left]


def has_failing(pods: Iterable[Object]) -> bool:
    """Whether one of them has failed, so that waiting alone may not help."""
    return any(_fails(pod) for pod in _left(pods))


def is_over(pod: Object) -> bool:
    """Its processes have ended for good; what is left is its record."""
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def is_ending(pod: Object) -> bool:
    """It was told to end, and has not."""
    return "deletionTimestamp" in pod["metadata"] and not is_over(pod)


def _is_observed(deployment: Object) -> bool:
    seen = deployment.get("status", {}).get("observedGeneration", 0)
    return bool(seen >= deployment["metadata"].get("generation", 0))


def _left(pods: Iterable[Object]) -> list[Object]:
    return [pod for pod in pods if (is_ending(pod) or not _is_ready(pod)) and not is_over(pod)]


def _is_ready(pod: Object) -> bool:
    conditions = pod.get("status", {}).get("conditions", ())
    return any(it["type"] == "Ready" and it["status"] == "True" for it in conditions)


def _fails(pod: Object) -> bool:
    return any(
        it.get("restartCount", 0)
        or it.get("lastState", {}).get("terminated")
        or it.get("state", {}).get("waiting", {}).get("reason", "") not in STARTING
        for it in _containers(pod)
    )


STARTING = ("", "ContainerCreating", "PodInitializing")


def _containers(pod: Object) -> list[Object]:
    status = pod.get("status", {})
    return [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]


def _why(pod: Object) -> str:
    if is_ending(pod):
        return "is ending"
    for container in _containers(pod):
        if not container.get("ready"):
            return _why_container(container)
    conditions = pod.get("status", {}).get("conditions", ())
    unscheduled = [it for it in conditions if it["type"] == "PodScheduled"]
    for it in unscheduled:
        if it["status"] == "False":
            return f"{it.get('reason', 'Unschedulable')}: {_short(it.get('message', ''))}"
    return "is starting"


def _why_container(container: Object) -> str:
    waiting = container.get("state", {}).get("waiting", {})
    ended = container.get("lastState", {}).get("terminated") or container.get("state", {}).get(
        "terminated"
    )
    parts = [waiting.get("reason", ""), _short(waiting.get("message", ""))]
    if ended:
        parts.append(f"ended with {ended.get('exitCode')} ({ended.get('reason', 'unknown')})")
    if container.get("restartCount"):
        parts.append(f"{container['restartCount']} restarts")
    if not any(parts):
        parts = ["runs, and its readiness probe fails"]
    return ", ".join(part for part in parts if part)


def _short(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:200]}..."
