"""Manifests, tokens, certificates and faults of a cluster, and workers that die."""

from __future__ import annotations

import time
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chalicelib.adapters.kubernetes.api import KubernetesApi
from chalicelib.adapters.kubernetes.deployment import KubernetesDeployment
from chalicelib.adapters.kubernetes.token import EksAccess, make_token
from chalicelib.errors import (
    BadInput,
    LeewardError,
    NotReady,
    Refused,
    Throttled,
    Unavailable,
)
from leeward.local.cloud import LocalCloud
from leeward.local.kubernetes import LocalKubernetes
from leeward.local.kubernetes.login import make_certificates
from leeward.local.kubernetes.objects import Key
from leeward.local.kubernetes.server import Fault
from tests.kubernetes_clusters import MANIFEST, ask, deployment, reach, tiny_cluster

OLD = "postgresql://app:secret@db/nexus"
NEW = "postgresql://app:secret@db/nexus_recovery"
DEPLOYMENT = Key("apps/v1", "deployments", "default", "api-deployment")
CONFIG = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: limits}\ndata: {uploads: '10'}\n"


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalCloud]:
    with LocalCloud(schedules=False) as running:
        yield running


@pytest.fixture
def cluster(cloud: LocalCloud, tmp_path: Path) -> Iterator[LocalKubernetes]:
    with tiny_cluster(cloud, tmp_path) as running:
        yield running


@pytest.fixture
def api(cloud: LocalCloud, cluster: LocalKubernetes) -> KubernetesDeployment:
    return deployment(reach(cloud, cluster))


def test_manifests_are_applied_in_order_and_undone(
    cloud: LocalCloud, api: KubernetesDeployment, cluster: LocalKubernetes
) -> None:
    dr = MANIFEST.replace("name: api-deployment", "name: api-dr").replace("app: api", "app: dr")
    namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: dr}\n"
    inside = CONFIG.replace("{name: limits}", "{name: limits, namespace: dr}")
    manifests = "---\n".join([namespace, inside, dr.replace("{name: api}", "{name: api-dr}")])

    applied = api.apply(manifests, keep="run-1", seconds=10)

    assert [(it.name, it.what) for it in applied] == [
        ("namespaces/dr", "created"),
        ("configmaps/limits in dr", "created"),
        ("deployments/api-dr in default", "created"),
        ("services/api-dr in default", "created"),
    ]
    other = KubernetesDeployment(
        reach(cloud, cluster), "api-dr", namespace="default", clock=api._clock, poll_seconds=0.05
    )
    assert other.wait_ready(10).ready == 3
    assert ask(cluster.address_of("api-dr")) is not None
    assert {it.what for it in api.apply(manifests, keep="run-1", seconds=10)} == {"unchanged"}

    assert api.put_back_manifests(manifests, keep="run-1") == (
        "services/api-dr in default",
        "deployments/api-dr in default",
        "configmaps/limits in dr",
    )
    with pytest.raises(NotReady, match="found none"):
        other.status()
    assert cluster.objects.find(Key("v1", "namespaces", "", "dr"))  # others may be in it by now
    assert api.status().ready == 3


def test_an_object_that_was_there_is_put_back_as_it_was(
    api: KubernetesDeployment, cluster: LocalKubernetes
) -> None:
    key = Key("v1", "configmaps", "default", "limits")
    cluster.apply(CONFIG)
    before = cluster.objects.get(key)
    wanted = CONFIG.replace("uploads: '10'", "downloads: '3'")

    assert [it.what for it in api.apply(wanted, keep="run-1", seconds=10)] == ["changed"]
    again = wanted.replace("'3'", "'4'")
    assert [it.what for it in api.apply(again, keep="run-1", seconds=10)] == ["changed"]
    assert cluster.objects.get(key)["data"] == {"uploads": "10", "downloads": "4"}

    assert api.put_back_manifests(again, keep="run-1") == ("configmaps/limits in default",)
    after = cluster.objects.get(key)
    assert (after["data"], after["metadata"].get("annotations", {})) == (before["data"], {})
    assert api.put_back_manifests(again, keep="run-1") == ()


def test_what_a_manifest_no_longer_says_is_taken_away(
    api: KubernetesDeployment, cluster: LocalKubernetes
) -> None:
    api.apply(CONFIG, keep="run-1", seconds=10)
    api.apply(CONFIG.replace("uploads: '10'", "downloads: '3'"), keep="run-2", seconds=10)
    key = Key("v1", "configmaps", "default", "limits")
    assert cluster.objects.get(key)["data"] == {"downloads": "3"}


@pytest.mark.parametrize(
    ("manifests", "code"),
    [
        ("{", "bad-manifest"),
        ("", "bad-manifest"),
        ("just text", "bad-manifest"),
        ("apiVersion: v1\nkind: ConfigMap\nmetadata: {}\n", "bad-manifest"),
        (CONFIG.replace("ConfigMap", "Wonder"), "unknown-kind"),
        (CONFIG.replace("v1", "wonders.example.org/v1"), "unknown-kind"),
        (MANIFEST.partition("---")[0].replace("app: api}}", "app: other}}"), "object-refused"),
    ],
)
def test_manifests_that_cannot_be_used_are_refused(
    api: KubernetesDeployment, cluster: LocalKubernetes, manifests: str, code: str
) -> None:
    before = cluster.objects.get(DEPLOYMENT)
    with pytest.raises(BadInput) as caught:
        api.apply(manifests, keep="run-1", seconds=10)
    assert caught.value.instance_code == code
    assert cluster.objects.get(DEPLOYMENT)["spec"] == before["spec"]


def test_what_is_too_large_to_remember_is_not_changed(
    api: KubernetesDeployment, cluster: LocalKubernetes
) -> None:
    cluster.apply(f"{CONFIG[:-1].removesuffix('}')}, rest: {'x' * 200_000}}}")
    with pytest.raises(Refused) as caught:
        api.apply(CONFIG.replace("'10'", "'11'"), keep="run-1", seconds=10)
    assert caught.value.instance_code == "too-large-to-keep"
    key = Key("v1", "configmaps", "default", "limits")
    assert cluster.objects.get(key)["data"]["uploads"] == "10"


def test_a_token_is_for_one_cluster(cloud: LocalCloud, cluster: LocalKubernetes) -> None:
    with pytest.raises(NotReady) as caught:
        deployment(reach(cloud, cluster, signed_for="nexus-staging")).status()
    assert caught.value.instance_code == "not-known-to-cluster"
    assert "expected a signature for the cluster" in cluster.denials[-1]


def test_a_token_ends_and_another_is_made(cloud: LocalCloud, cluster: LocalKubernetes) -> None:
    workload = deployment(reach(cloud, cluster))
    workload.status()
    old = cluster.login.now
    cluster.login.now = lambda: old() + 16 * 60  # the cluster's clock; a new token is as old there
    with pytest.raises(NotReady) as caught:
        workload.status()
    assert caught.value.instance_code == "not-known-to-cluster"
    assert "the token has ended" in cluster.denials[-1]
    cluster.login.now = old
    assert workload.status().ready == 3


def test_a_token_that_has_ended_is_renewed_unasked(
    cloud: LocalCloud, cluster: LocalKubernetes
) -> None:
    access = EksAccess(cloud.client("sts"), cluster.cluster)
    workload = deployment(reach(cloud, cluster, access=access))
    workload.status()
    access._token = access._token[:-4] + "AAAA"
    access._made_at -= 5 * 60
    assert workload.status().ready == 3
    assert len(cluster.denials) == 1


def test_a_token_names_the_sts_of_the_callers_own_region(cloud: LocalCloud) -> None:
    token = make_token(cloud.client("sts", "us-west-2"), "nexus-dr")
    url = urlsafe_b64decode(token.removeprefix("k8s-aws-v1.") + "==").decode()
    assert "%2Fus-west-2%2Fsts%2Faws4_request" in url
    assert "X-Amz-SignedHeaders=host%3Bx-k8s-aws-id" in url
    assert "=" not in token


def test_only_the_plans_authority_is_trusted(
    cloud: LocalCloud, cluster: LocalKubernetes, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    other, _ = make_certificates(tmp_path / "other")
    for ca in (other, None):
        with pytest.raises(NotReady) as caught:
            deployment(reach(cloud, cluster, ca=ca)).status()
        assert caught.value.instance_code == "not-the-service"
    assert cluster.requests == []


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("refuse", Unavailable),
        ("hang", Unavailable),
        ("reset", Unavailable),
        ("503", Throttled),
    ],
)
def test_an_api_that_does_not_answer_is_given_up_in_time_and_may_be_tried_again(
    api: KubernetesDeployment, cluster: LocalKubernetes, fault: Fault, error: type[LeewardError]
) -> None:
    cluster.fail(fault)
    began = time.monotonic()
    with pytest.raises(error) as caught:
        api.stop(10)
    assert caught.value.retryable
    assert time.monotonic() - began < 6
    cluster.fail(None)
    assert api.stop(10).before == 3


@pytest.mark.parametrize("fault", ["reset", "503", "lost", "hang"])
def test_a_fault_that_passes_changes_nothing_in_the_end(
    api: KubernetesDeployment, cluster: LocalKubernetes, fault: Fault
) -> None:
    def once(act: object) -> None:
        cluster.fail(fault, times=1)
        act()  # type: ignore[operator]

    once(lambda: api.set_environment("DATABASE_URL", NEW, keep="run-1"))
    once(lambda: api.stop(10))
    once(lambda: api.start(3))
    once(lambda: api.put_back_environment("DATABASE_URL", keep="run-1"))
    once(lambda: api.apply(CONFIG, keep="run-1", seconds=10))
    assert api.wait_ready(10).environment == {"DATABASE_URL": OLD}
    assert api.put_back_manifests(CONFIG, keep="run-1") == ("configmaps/limits in default",)


class Died(BaseException):
    """As a worker ends that is killed: nothing of its own code runs any more."""


class Dying(KubernetesApi):
    """Dies when that many requests were answered."""

    left = 0

    def _call(self, *args: Any) -> Any:
        answer = super()._call(*args)
        self.left -= 1
        if self.left == 0:
            raise Died
        return answer


def test_a_worker_that_dies_after_any_request_leaves_what_the_next_one_finishes(
    cloud: LocalCloud, cluster: LocalKubernetes
) -> None:
    def act(api: KubernetesApi) -> None:
        worker = deployment(api)
        worker.set_environment("DATABASE_URL", NEW, keep="run-1")
        worker.apply(CONFIG, keep="run-1", seconds=10)
        worker.stop(10)
        worker.start(1)

    deaths, finished = 0, False
    while not finished:
        deaths += 1
        dying = reach(cloud, cluster, kind=Dying)
        dying.left = deaths  # type: ignore[attr-defined]
        try:
            act(dying)
            finished = True
        except Died:
            act(reach(cloud, cluster))
        worker = deployment(reach(cloud, cluster))
        standing = worker.status()
        assert (standing.wanted, standing.environment["DATABASE_URL"]) == (1, NEW)
        assert worker.put_back_environment("DATABASE_URL", keep="run-1")
        assert worker.put_back_manifests(CONFIG, keep="run-1")
        assert worker.status().environment == {"DATABASE_URL": OLD}
    assert worker.wait_ready(10).ready == 1
    assert deaths > 8


def test_what_rights_and_names_are_missing_is_said(
    cloud: LocalCloud, cluster: LocalKubernetes
) -> None:
    closed = MANIFEST.partition("---")[0].replace("{name:", "{namespace: kube-system, name:", 1)
    cluster.apply(closed)
    elsewhere = deployment(reach(cloud, cluster), namespace="kube-system")
    with pytest.raises(Refused) as refused:
        elsewhere.start(1)
    assert refused.value.instance_code == "access-denied"
    with pytest.raises(NotReady, match="deployments/api-deployment in nowhere"):
        deployment(reach(cloud, cluster), namespace="nowhere").status()
    with pytest.raises(NotReady, match="container"):
        deployment(reach(cloud, cluster), container="sidecar").status()
