"""What a cluster does by itself: a deployment's pods are made and ended, a service finds them.

One loop looks at everything ten times a second and whenever an object was written. It alone makes
pods and tells their status.
Source: Kubernetes' documentation of Deployments (maxSurge up, maxUnavailable down from 25 %),
k8s.io/kubernetes, pkg/controller/deployment/{rolling,progress}.go.
"""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from chalicelib.plan.records import digest_of
from leeward.local.kubernetes.forward import Forward
from leeward.local.kubernetes.objects import Key, Object
from leeward.local.kubernetes.pods import Node, Pod, wait_until

LOOK_SECONDS = 0.1
END_SECONDS = 5.0
HASH = "pod-template-hash"
OWNER = "leeward.local/deployment"
REVISION = "deployment.kubernetes.io/revision"
# Kubernetes' own default of spec.progressDeadlineSeconds.
DEADLINE_SECONDS = 600


@dataclass
class _Rollout:
    """What the controller remembers of a deployment: its templates, and when it last got on."""

    templates: list[str] = field(default_factory=list)
    progress: tuple[int, ...] = ()
    progressed_at: float = field(default_factory=time.monotonic)


class Control:
    """Runs from `start` to `stop`."""

    def __init__(self, node: Node, is_cut_off: Callable[[], bool]) -> None:
        """`is_cut_off`: whether nobody reaches its services now."""
        self._is_cut_off = is_cut_off
        self._node, self._objects = node, node.objects
        self._pods: dict[Key, Pod] = {}
        self._rollouts: dict[Key, _Rollout] = {}
        self._forwards: dict[Key, Forward] = {}
        self._numbers = itertools.count(1)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End every process and close every address, without grace."""
        self._stopping.set()
        self._thread.join()
        for forward in self._forwards.values():
            forward.close()
        with ThreadPoolExecutor(max(len(self._pods), 1)) as killers:
            list(killers.map(Pod.kill, self._pods.values()))
        wait_until(lambda: not any(pod.alive for pod in self._pods.values()), END_SECONDS)

    def pods(self) -> list[Pod]:
        """Those whose processes run, or are ending."""
        return list(self._pods.values())

    def _run(self) -> None:
        while not self._stopping.is_set():
            with self._objects.changed:
                self._look()
                self._objects.changed.wait(LOOK_SECONDS)

    def _look(self) -> None:
        deployments = self._objects.list("apps/v1", "deployments")
        for key, pod in list(self._pods.items()):
            self._look_at_pod(key, pod)
        self._end_orphans({_owner(it) for it in deployments})
        for deployment in deployments:
            self._look_at_deployment(deployment)
        self._look_at_services()

    def _look_at_pod(self, key: Key, pod: Pod) -> None:
        item = self._objects.find(key)
        if item is None or _is_ending(item):
            pod.stop()
            if not pod.alive:
                self._objects.remove(key)
                del self._pods[key]
                return
        self._objects.set_status(key, pod.status())

    def _end_orphans(self, owners: set[str]) -> None:
        for item in self._objects.list("v1", "pods"):
            owner = item["metadata"].get("annotations", {}).get(OWNER)
            if owner is not None and owner not in owners:
                self._delete(item)

    def _look_at_deployment(self, deployment: Object) -> None:
        key = Key("apps/v1", "deployments", *_name_of(deployment))
        template = digest_of(deployment["spec"]["template"])[:10]
        rollout = self._rollouts.setdefault(key, _Rollout())
        self._number(key, deployment, rollout, template)
        pods = self._pods_of(deployment)
        active = [it for it in pods if not _is_ending(it)]
        new = [it for it in active if it["metadata"]["labels"].get(HASH) == template]
        old = [it for it in active if it not in new]
        if deployment["spec"].get("strategy", {}).get("type") == "Recreate":
            self._recreate(deployment, template, new, old, pods)
        else:
            self._roll(deployment, template, new, old)
        self._tell(key, deployment, rollout, template)

    def _number(self, key: Key, deployment: Object, rollout: _Rollout, template: str) -> None:
        """A template that comes back is a new revision, as in Kubernetes."""
        if not rollout.templates or rollout.templates[-1] != template:
            rollout.templates.append(template)
            rollout.progressed_at = time.monotonic()
        revision = str(len(rollout.templates))
        if deployment["metadata"].get("annotations", {}).get(REVISION) != revision:
            self._objects.annotate(key, {REVISION: revision})

    def _roll(
        self, deployment: Object, template: str, new: list[Object], old: list[Object]
    ) -> None:
        wanted = deployment["spec"].get("replicas", 1)
        rules = deployment["spec"].get("strategy", {}).get("rollingUpdate", {})
        surge = _share(rules.get("maxSurge", "25%"), wanted, math.ceil)
        unavailable = _share(rules.get("maxUnavailable", "25%"), wanted, math.floor)
        if not surge and not unavailable:
            unavailable = 1
        for item in sorted(new, key=_is_ready)[: max(len(new) - wanted, 0)]:
            self._delete(item)
        for _ in range(min(wanted - len(new), wanted + surge - len(new) - len(old))):
            self._create(deployment, template)
        ready = sum(map(_is_ready, [*new, *old]))
        for item in sorted(old, key=_is_ready):
            if _is_ready(item):
                if ready <= wanted - unavailable:
                    break
                ready -= 1
            self._delete(item)

    def _recreate(
        self,
        deployment: Object,
        template: str,
        new: list[Object],
        old: list[Object],
        pods: list[Object],
    ) -> None:
        wanted = deployment["spec"].get("replicas", 1)
        for item in [*old, *new[wanted:]]:
            self._delete(item)
        if len(pods) == len(new):
            for _ in range(wanted - len(new)):
                self._create(deployment, template)

    def _create(self, deployment: Object, template: str) -> None:
        namespace, name = _name_of(deployment)
        key = Key("v1", "pods", namespace, f"{name}-{template}-{next(self._numbers):05d}")
        given = deployment["spec"]["template"]
        metadata = given.get("metadata", {})
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "labels": {**metadata.get("labels", {}), HASH: template},
                "annotations": {**metadata.get("annotations", {}), OWNER: _owner(deployment)},
            },
            "spec": given["spec"],
        }
        self._pods[key] = Pod(self._node, self._objects.create(key, pod))
        self._pods[key].start()
        self._objects.set_status(key, self._pods[key].status())

    def _delete(self, item: Object) -> None:
        self._objects.mark_ending(Key("v1", "pods", *_name_of(item)))

    def _pods_of(self, deployment: Object) -> list[Object]:
        owner = _owner(deployment)
        found = self._objects.list("v1", "pods", deployment["metadata"]["namespace"])
        return [it for it in found if it["metadata"].get("annotations", {}).get(OWNER) == owner]

    def _tell(self, key: Key, deployment: Object, rollout: _Rollout, template: str) -> None:
        active = [it for it in self._pods_of(deployment) if not _is_ending(it)]
        updated = [it for it in active if it["metadata"]["labels"].get(HASH) == template]
        ready = sum(map(_is_ready, active))
        wanted = deployment["spec"].get("replicas", 1)
        counts = {
            "observedGeneration": deployment["metadata"]["generation"],
            "replicas": len(active),
            "updatedReplicas": len(updated),
            "readyReplicas": ready,
            "availableReplicas": ready,
            "unavailableReplicas": max(wanted - ready, 0),
        }
        complete = len(updated) == wanted == len(active) and ready == wanted
        conditions = self._conditions(deployment, rollout, counts, complete)
        told = {name: count for name, count in counts.items() if count}
        self._objects.set_status(key, {**told, "conditions": conditions})

    def _conditions(
        self, deployment: Object, rollout: _Rollout, counts: dict[str, int], complete: bool
    ) -> list[Object]:
        progress = (counts["updatedReplicas"], counts["readyReplicas"], counts["replicas"])
        if progress != rollout.progress or complete:
            rollout.progress, rollout.progressed_at = progress, time.monotonic()
        limit = deployment["spec"].get("progressDeadlineSeconds", DEADLINE_SECONDS)
        late = time.monotonic() - rollout.progressed_at > limit
        reason = "NewReplicaSetAvailable" if complete else "ReplicaSetUpdated"
        available = "True" if counts["availableReplicas"] or complete else "False"
        return [
            {"type": "Available", "status": available},
            {
                "type": "Progressing",
                "status": "False" if late else "True",
                "reason": "ProgressDeadlineExceeded" if late else reason,
            },
        ]

    def _look_at_services(self) -> None:
        services = {
            Key("v1", "services", *_name_of(it)): it for it in self._objects.list("v1", "services")
        }
        for key in set(self._forwards) - set(services):
            self._forwards.pop(key).close()
        for key in set(services) - set(self._forwards):
            self._open(key, services[key])

    def _open(self, key: Key, service: Object) -> None:
        def ports() -> list[int]:
            if self._is_cut_off():
                return []
            selector = service["spec"].get("selector", {})
            return [
                pod.port
                for pod in self.pods()
                if pod.ready
                and pod.key.namespace == key.namespace
                and selector.items() <= pod.labels.items()
            ]

        port = service["spec"]["ports"][0].get("nodePort", 0)
        self._forwards[key] = forward = Forward(port, ports)

        def addressed(item: Object) -> Object:
            first = {**item["spec"]["ports"][0], "nodePort": forward.port}
            rest = item["spec"]["ports"][1:]
            spec = {**item["spec"], "clusterIP": "127.0.0.1", "ports": [first, *rest]}
            return {**item, "spec": spec}

        self._objects.edit(key, addressed)


def _name_of(item: Object) -> tuple[str, str]:
    return item["metadata"]["namespace"], item["metadata"]["name"]


def _owner(deployment: Object) -> str:
    return str(deployment["metadata"]["uid"])


def _is_ending(item: Object) -> bool:
    return "deletionTimestamp" in item["metadata"]


def _is_ready(pod: Object) -> bool:
    conditions = pod.get("status", {}).get("conditions", ())
    return any(it["type"] == "Ready" and it["status"] == "True" for it in conditions)


def _share(value: object, wanted: int, rounded: object) -> int:
    """ "25%" of the replicas, or a plain number."""
    if isinstance(value, str) and value.endswith("%"):
        assert callable(rounded)
        return int(rounded(wanted * int(value[:-1]) / 100))
    return int(str(value))
