"""The clusters of a plan, each as a local one, with the sample application in them.

    with local_clusters(cloud, plan) as clusters:
        build_package(clusters.plan, ...)      its endpoints, authorities and health addresses
        clusters.deploy()                      what runs before anything happens

Each service has its address from the start, also when nothing is behind it yet. What the plan has
manifests for is deployed by whoever applies them: `clusters.manifests_of` says what they contain.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chalicelib.plan.components import Bucket, Postgres, Service
from chalicelib.plan.model import Plan
from leeward.local.clients import CREDENTIALS
from leeward.local.cloud import PRIMARY_REGION, LocalCloud
from leeward.local.deploy import create_bucket
from leeward.local.faults import How
from leeward.local.kubernetes.objects import Key
from leeward.local.kubernetes.pods import wait_until
from leeward.local.kubernetes.server import Fault, LocalKubernetes
from leeward.local.wire import ApiCall

IMAGE = "leeward/sample-app"
FAULTS: dict[How, Fault] = {
    "refuse": "refuse",
    "reset": "reset",
    "hang": "hang",
    "error": "503",
    "throttle": "429",
}
ADDRESS_SECONDS = 5.0
DEPLOY_SECONDS = 60.0


@dataclass(frozen=True)
class CloudRegion:
    """A region of the local cloud: what fails there (leeward/local/faults.py) fails here.

    A cluster's API is the service "eks" of its region.
    """

    cloud: LocalCloud
    name: str

    def fault_of(self, method: str) -> Fault | None:
        found = self.cloud.faults.meeting(ApiCall(self.name, "eks", method))
        return FAULTS[found.how] if found else None

    def is_cut_off(self) -> bool:
        return self.cloud.faults.stops(self.name, "eks", "Forward")


@dataclass(frozen=True)
class LocalClusters:
    """`plan`: the plan of this machine. `ledgers`: a file of each pod of the sample application."""

    plan: Plan
    by_name: Mapping[str, LocalKubernetes]
    ledgers: Path
    rate: float

    def of(self, component: str) -> LocalKubernetes:
        found = _service(self.plan, component)
        assert found.cluster
        return self.by_name[found.cluster.name]

    def deploy(self, *components: str) -> None:
        """Those that are named, else every one without manifests; waits until they serve."""
        wanted = components or [
            name for name in _clustered(self.plan) if not _service(self.plan, name).manifests
        ]
        for name in wanted:
            self.of(name).apply(self.manifests_of(name), wait_seconds=0)
        for name in wanted:
            self.of(name).wait_settled(DEPLOY_SECONDS)

    def manifests_of(self, component: str) -> str:
        """The deployment of the sample application, as a person would write it down."""
        found = _service(self.plan, component)
        assert found.cluster
        assert found.deployment
        return json.dumps(_deployment(self.plan, component, found, self.ledgers, self.rate))

    def store_manifests(self, cloud: LocalCloud) -> None:
        """Put the manifests of every service that has any where the plan says, in its region."""
        for name in _clustered(self.plan):
            found = _service(self.plan, name)
            bucket, _, prefix = (found.manifests or "").removeprefix("s3://").partition("/")
            if bucket:
                region = _region(self.plan, found)
                client = cloud.client("s3", region)
                create_bucket(client, bucket, region)
                body = self.manifests_of(name).encode()
                client.put_object(Bucket=bucket, Key=f"{prefix}{name}.json", Body=body)


@contextmanager
def local_clusters(
    cloud: LocalCloud,
    plan: Plan,
    *,
    rate: float = 10.0,
    images: Mapping[str, Sequence[str]] | None = None,
) -> Iterator[LocalClusters]:
    """`rate`: transactions a second of each pod. `images`: other commands than the sample's."""
    ledgers = cloud.folder / "ledgers"
    ledgers.mkdir()
    with ExitStack() as stack:
        by_name = {
            name: stack.enter_context(_start(cloud, plan, name, images or _images()))
            for name in _cluster_names(plan)
        }
        yield LocalClusters(_localised(plan, by_name), by_name, ledgers, rate)


def _start(
    cloud: LocalCloud, plan: Plan, name: str, images: Mapping[str, Sequence[str]]
) -> LocalKubernetes:
    services = [_service(plan, one) for one in _clustered(plan)]
    services = [it for it in services if _cluster(it) == name]
    spaces = {it.cluster.namespace for it in services if it.cluster}
    region = _region(plan, services[0])
    return LocalKubernetes(
        cloud.folder / "clusters" / name,
        cloud.reaper,
        cluster=name,
        sts_url=cloud.url,
        secrets={CREDENTIALS["AWS_ACCESS_KEY_ID"]: CREDENTIALS["AWS_SECRET_ACCESS_KEY"]},
        images=images,
        environment={"PATH": "/usr/bin:/bin", **cloud.environment(region)},
        namespaces=sorted({"default", *spaces}),
        region=CloudRegion(cloud, region),
    )


def _localised(plan: Plan, by_name: Mapping[str, LocalKubernetes]) -> Plan:
    """The plan with the addresses of this machine."""
    components = dict(plan.components)
    for name in _clustered(plan):
        found = _service(plan, name)
        assert found.cluster
        local = by_name[found.cluster.name]
        cluster = found.cluster.model_copy(update={"endpoint": local.endpoint, "ca": local.ca})
        address = _address(local, name, found.cluster.namespace)
        components[name] = found.model_copy(
            update={"cluster": cluster, "health": f"{address}/health"}
        )
    return plan.model_copy(update={"components": components})


def _address(local: LocalKubernetes, component: str, namespace: str) -> str:
    key = Key("v1", "services", namespace, component)
    spec = {"selector": {"app": component}, "ports": [{"port": 80, "targetPort": 8080}]}
    local.objects.create(key, {"apiVersion": "v1", "kind": "Service", "metadata": {}, "spec": spec})
    wait_until(lambda: "clusterIP" in local.objects.get(key)["spec"], ADDRESS_SECONDS)
    return local.address_of(component, namespace)


def _deployment(
    plan: Plan, component: str, found: Service, ledgers: Path, rate: float
) -> dict[str, Any]:
    assert found.cluster
    needed = [plan.components[name] for name in found.depends_on if name in plan.components]
    secrets = [it.application_secret for it in needed if isinstance(it, Postgres)]
    buckets = [it.bucket for it in needed if isinstance(it, Bucket)]
    env = [{"name": "ASSETS_BUCKET", "value": it} for it in buckets[:1]]
    args = [f"--secret={secrets[0]}"] if secrets else []
    container = {
        "name": found.container or "api",
        "image": f"{IMAGE}:1",
        "args": [*args, f"--ledger={ledgers}", f"--rate={rate}"],
        "env": env,
        "readinessProbe": {"httpGet": {"path": "/health", "port": 8080}},
    }
    labels = {"app": component}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": found.deployment, "namespace": found.cluster.namespace},
        "spec": {
            "replicas": 1 if found.replicas is None else found.replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }


def _images() -> dict[str, Sequence[str]]:
    return {IMAGE: [sys.executable, "-m", "leeward.local.sample_app"]}


def _region(plan: Plan, service: Service) -> str:
    site = plan.sites.get(service.site or "")
    return site.region or PRIMARY_REGION if site else PRIMARY_REGION


def _clustered(plan: Plan) -> list[str]:
    found = [(name, it) for name, it in plan.components.items() if isinstance(it, Service)]
    return [name for name, it in found if it.cluster and it.deployment]


def _cluster_names(plan: Plan) -> list[str]:
    return list(dict.fromkeys(_cluster(_service(plan, name)) for name in _clustered(plan)))


def _cluster(service: Service) -> str:
    return service.cluster.name if service.cluster else ""


def _service(plan: Plan, component: str) -> Service:
    found = plan.components[component]
    assert isinstance(found, Service)
    return found
