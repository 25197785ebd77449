"""An image that closes a hole is rolled out on a cluster whose processes are real."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chalicelib.adapters.kubernetes.api import Place
from chalicelib.errors import CheckFailed, NotReady
from chalicelib.plan.components import Cluster, Service
from chalicelib.services.steps.attack.patching import NAMED, manifest_of
from leeward.local.cloud import LocalCloud
from leeward.local.kubernetes import LocalKubernetes
from tests.kubernetes_clusters import CLUSTER, deployment, reach, tiny_cluster

API = Service(
    kind="service",
    deployment="api-deployment",
    container="api",
    cluster=Cluster(name=CLUSTER, endpoint="https://127.0.0.1"),
)


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalCloud]:
    with LocalCloud(schedules=False) as running:
        yield running


def images(cloud: LocalCloud, cluster: LocalKubernetes) -> set[str]:
    """Of the containers that run."""
    pods = reach(cloud, cluster).list(Place("v1", "pods", "default", ""), {"app": "api"})
    return {it["image"] for pod in pods for it in pod["spec"]["containers"]}


def test_every_server_runs_the_image_and_then_the_one_before(
    cloud: LocalCloud, tmp_path: Path
) -> None:
    with tiny_cluster(cloud, tmp_path) as cluster:
        api = deployment(reach(cloud, cluster))
        patched = manifest_of("api", API, "nexus/tiny:1.0.1")
        api.apply(patched, keep="run-1", seconds=20)
        assert images(cloud, cluster) == {"nexus/tiny:1.0.1"}
        standing = api.status()
        assert (standing.ready, standing.environment["DATABASE_URL"]) == (
            3, "postgresql://app:secret@db/nexus",
        )  # fmt: skip
        api.put_back_manifests(patched, keep="run-1")
        api.wait_ready(20)
        assert images(cloud, cluster) == {"nexus/tiny:1.0"}

        missing = manifest_of("api", API, "nexus/missing:1")
        with pytest.raises(CheckFailed) as caught:
            api.apply(missing, keep="run-2", seconds=20)
        assert caught.value.instance_code in ("rollout-stuck", "not-ready-in-time")


def test_a_container_that_is_not_named_gets_no_image() -> None:
    with pytest.raises(NotReady) as caught:
        manifest_of("api", API.model_copy(update={"container": None}), "nexus/tiny:1.0.1")
    assert caught.value.instance_code == "container-not-named"


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        ("nexus/api:1.4.2", True),
        ("123456789012.dkr.ecr.us-east-1.amazonaws.com/api:1.4.2", True),
        ("localhost:5000/api@sha256:" + "a" * 64, True),
        ("yes", False),
        ("nexus/api", False),
        ("", False),
        ("patched by hand: see ticket", False),
    ],
)
def test_only_an_answer_that_names_one_version_is_rolled_out(answer: str, named: bool) -> None:
    assert (NAMED.fullmatch(answer) is not None) is named
