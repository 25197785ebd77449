"""A deployment as a Workload: scaled, configured, applied and watched until it serves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chalicelib.adapters.kubernetes import kept, rollout
from chalicelib.adapters.kubernetes.api import KubernetesApi, Object, Place
from chalicelib.adapters.kubernetes.manifests import apply_manifests, put_back
from chalicelib.errors import CheckFailed, NotReady
from chalicelib.ports import Clock
from chalicelib.ports.workloads import Applied, Standing, Stopped

POLL_SECONDS = 0.5
TOLD_PODS = 3


class KubernetesDeployment:
    """See the port. `container`: which of a pod's is meant, "" when there is one.

    replicas: how many `start` asks for when it is not told; None: as many as there are, at
    least one.
    """

    def __init__(
        self,
        api: KubernetesApi,
        name: str,
        *,
        namespace: str,
        clock: Clock,
        container: str = "",
        replicas: int | None = None,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self.name = name
        self._api, self._clock = api, clock
        self._namespace, self._container, self._replicas = namespace, container, replicas
        self._poll_seconds = poll_seconds
        self._place = Place("apps/v1", "deployments", namespace, name)

    def status(self) -> Standing:
        return self._standing(self._api.get(self._place))

    def stop(self, seconds: float) -> Stopped:
        """Also pods that are ending count until they are gone: they may still write."""
        started = self._clock.now()
        deployment = self._api.get(self._place)
        before = rollout.wanted_of(deployment)
        if before:
            self._api.scale(self._place, 0)
        while left := [pod for pod in self._pods(deployment) if not rollout.is_over(pod)]:
            if self._since(started) > seconds:
                raise CheckFailed(
                    f"expected no pod of {self.name} after {seconds:.0f} s, found"
                    f" {_listed([pod['metadata']['name'] for pod in left])}",
                    hint="Is its node lost? Then fence it otherwise; a lost node's pods stay.",
                    code="still-running",
                )
            self._clock.sleep(self._poll_seconds)
        return Stopped(before, self._since(started))

    def start(self, replicas: int | None = None) -> None:
        deployment = self._api.get(self._place)
        wanted = replicas if replicas is not None else self._replicas
        if wanted is None:
            wanted = max(rollout.wanted_of(deployment), 1)
        if wanted != rollout.wanted_of(deployment):
            self._api.scale(self._place, wanted)

    def set_environment(self, name: str, value: str, *, keep: str) -> bool:
        wanted = {"name": name, "value": value}
        changed = False

        def decide(deployment: Object) -> Object | None:
            nonlocal changed
            container = self._container_of(deployment)
            before = _variable(container, name)
            changed = changed or before != wanted
            if before == wanted:
                return None
            annotation = kept.with_environment(deployment, keep, name, before)
            return _patched(container["name"], name, wanted, before, annotation)

        self._api.change(self._place, decide)
        return changed

    def put_back_environment(self, name: str, *, keep: str) -> bool:
        done = False

        def decide(deployment: Object) -> Object | None:
            nonlocal done
            remembered = kept.kept_of(deployment)
            mine = remembered.get(keep, {}).get("environment", {})
            if name not in mine:
                return None
            done = True
            container = self._container_of(deployment)
            annotation = kept.without(remembered, keep, "environment", name)
            before = _variable(container, name)
            return _patched(container["name"], name, mine[name], before, annotation)

        self._api.change(self._place, decide)
        return done

    def apply(self, manifests: str, *, keep: str, seconds: float) -> tuple[Applied, ...]:
        started = self._clock.now()
        done = apply_manifests(self._api, manifests, namespace=self._namespace, keep=keep)
        for place, _ in done:
            if place.plural == "deployments":
                self._another(place)._wait(max(seconds - self._since(started), 0))
        return tuple(Applied(str(place), what) for place, what in done)

    def put_back_manifests(self, manifests: str, *, keep: str) -> tuple[str, ...]:
        return put_back(self._api, manifests, namespace=self._namespace, keep=keep)

    def wait_ready(self, seconds: float) -> Standing:
        return self._standing(self._wait(seconds))

    def _wait(self, seconds: float) -> Object:
        started = self._clock.now()
        while True:
            deployment = self._api.get(self._place)
            waits_for = rollout.waits_for(deployment) or self._ending(deployment)
            if not waits_for:
                return deployment
            if rollout.is_stuck(deployment):
                raise self._not_ready(deployment, f"the cluster gave it up: {waits_for}", True)
            if self._since(started) > seconds:
                raise self._not_ready(deployment, f"after {seconds:.0f} s {waits_for}", False)
            self._clock.sleep(self._poll_seconds)

    def _another(self, place: Place) -> KubernetesDeployment:
        return KubernetesDeployment(
            self._api,
            place.name,
            namespace=place.namespace,
            clock=self._clock,
            poll_seconds=self._poll_seconds,
        )

    def _ending(self, deployment: Object) -> str:
        """The cluster counts pods that are ending no more; these may still write where they did."""
        left = [it for it in self._pods(deployment) if rollout.is_ending(it)]
        return f"{len(left)} of an old revision have not ended" if left else ""

    def _not_ready(self, deployment: Object, found: str, stuck: bool) -> CheckFailed:
        pods = self._pods(deployment)
        why = rollout.why_not_ready(pods)
        stuck = stuck or rollout.has_failing(pods)
        return CheckFailed(
            f"expected {self.name} to be rolled out, {found}; {_listed(why) or 'no pod was made'}",
            hint="Look at the pod's log and its configuration."
            if stuck
            else "Has the cluster room for it? Wait longer, or look at the pod.",
            code="rollout-stuck" if stuck else "not-ready-in-time",
            pods=why,
        )

    def _standing(self, deployment: Object) -> Standing:
        status = deployment.get("status", {})
        container = self._container_of(deployment)
        return Standing(
            ready=int(status.get("readyReplicas", 0)),
            wanted=rollout.wanted_of(deployment),
            revision=rollout.revision_of(deployment),
            environment={it["name"]: _told(it) for it in container.get("env", ())},
        )

    def _pods(self, deployment: Object) -> list[Object]:
        """Those that its selector finds. Raises NotReady for one that is not made of labels."""
        selector = deployment["spec"]["selector"]
        if selector.get("matchExpressions"):
            raise NotReady(
                f"expected {self.name} to select its pods by labels, found expressions",
                hint="Give the deployment a selector of matchLabels alone.",
                code="selector-not-known",
            )
        place = Place("v1", "pods", self._namespace, "")
        return self._api.list(place, selector["matchLabels"])

    def _container_of(self, deployment: Object) -> Object:
        containers = deployment["spec"]["template"]["spec"]["containers"]
        found = [it for it in containers if self._container in ("", it["name"])]
        if len(found) != 1:
            raise NotReady(
                f"expected one container {self._container or 'in each pod'} of {self.name}, found"
                f" {', '.join(it['name'] for it in containers)}",
                hint="Name the container of the deployment in the plan.",
                code="container-not-named",
            )
        return dict(found[0])

    def _since(self, started: Any) -> float:
        return float((self._clock.now() - started).total_seconds())


def _variable(container: Object, name: str) -> Object | None:
    return next((it for it in container.get("env", ()) if it["name"] == name), None)


def _patched(
    container: str, name: str, entry: Object | None, before: Object | None, annotation: str | None
) -> Object:
    """A strategic merge patch that makes the variable `entry`, or takes it away.

    Merging would leave a `valueFrom` beside a new `value`, which is refused: it is nulled.
    """
    if entry is None:
        changed: Object = {"name": name, "$patch": "delete"}
    else:
        changed = dict.fromkeys(before or {}) | entry
    containers = [{"name": container, "env": [changed]}]
    return {
        "metadata": {"annotations": {kept.BEFORE: annotation}},
        "spec": {"template": {"spec": {"containers": containers}}},
    }


def _told(entry: Mapping[str, Any]) -> str:
    """ "from secret db/dsn", or the value itself."""
    if "valueFrom" not in entry:
        return str(entry.get("value", ""))
    [(kind, where)] = list(entry["valueFrom"].items())[:1]
    short = kind.removesuffix("KeyRef").removesuffix("Ref")
    return f"from {short} {where.get('name', where.get('fieldPath', ''))}/{where.get('key', '')}"


def _listed(texts: list[str]) -> str:
    more = f" and {len(texts) - TOLD_PODS} more" if len(texts) > TOLD_PODS else ""
    return "; ".join(texts[:TOLD_PODS]) + more
