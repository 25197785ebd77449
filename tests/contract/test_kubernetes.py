"""Deployments in a cluster whose API, tokens and processes are real; only the machine is small."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from chalicelib.adapters.kubernetes.api import Object
from chalicelib.adapters.kubernetes.deployment import KubernetesDeployment
from chalicelib.adapters.kubernetes.kept import BEFORE
from chalicelib.errors import (
    CheckFailed,
)
from leeward.local.cloud import LocalCloud
from leeward.local.kubernetes import LocalKubernetes
from leeward.local.kubernetes.objects import Key
from tests.kubernetes_clusters import ask, deployment, reach, tiny_cluster

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


def pids(cluster: LocalKubernetes) -> set[int]:
    processes = [it._process for pod in cluster.pods() for it in pod.containers]
    return {process.pid for process in processes if process is not None}


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_stop_ends_every_process_and_start_brings_new_ones(
    api: KubernetesDeployment, cluster: LocalKubernetes
) -> None:
    before, address = pids(cluster), cluster.address_of("api")
    assert len(before) == 3
    assert ask(address) is not None

    stopped = api.stop(10)

    assert stopped.before == 3
    assert not any(map(lives, before))
    assert ask(address) is None
    assert api.stop(10).before == 0  # again: harmless
    api.start(3)
    standing = api.wait_ready(10)
    assert (standing.ready, standing.wanted) == (3, 3)
    assert ask(address) is not None
    assert not pids(cluster) & before


def test_start_without_a_number_takes_the_plans_or_one(
    cloud: LocalCloud, cluster: LocalKubernetes
) -> None:
    planned = deployment(reach(cloud, cluster), replicas=2)
    planned.stop(10)
    planned.start()
    assert planned.wait_ready(10).wanted == 2
    planned.stop(10)
    unplanned = deployment(reach(cloud, cluster))
    unplanned.start()
    assert unplanned.wait_ready(10).wanted == 1


def test_stop_counts_a_pod_that_will_not_end(
    api: KubernetesDeployment, cluster: LocalKubernetes
) -> None:
    def stubborn(item: Object) -> Object:
        spec = item["spec"]["template"]["spec"]
        spec["terminationGracePeriodSeconds"] = 60
        ignoring = "trap '' TERM; while true; do sleep 1; done"
        spec["containers"][0]["command"] = ["/bin/bash", "-c", ignoring]
        del spec["containers"][0]["readinessProbe"]
        return item

    cluster.objects.edit(DEPLOYMENT, stubborn)
    api.wait_ready(10)
    with pytest.raises(CheckFailed, match=r"found api-deployment-\w+-\d+; ") as caught:
        api.stop(0.5)
    assert caught.value.instance_code == "still-running"


def test_a_new_process_sees_the_new_environment_and_no_old_one_is_left(
    api: KubernetesDeployment, cluster: LocalKubernetes
) -> None:
    old = pids(cluster)
    assert api.set_environment("DATABASE_URL", NEW, keep="run-1")
    standing = api.wait_ready(10)
    assert standing.environment["DATABASE_URL"] == NEW
    assert standing.revision == "2"
    assert not any(map(lives, old))
    assert [ask(cluster.address_of("api"))["DATABASE_URL"] for _ in range(6)] == [NEW] * 6  # type: ignore[index]


def test_while_it_is_replaced_the_service_answers_all_the_time(
    api: KubernetesDeployment, cluster: LocalKubernetes
) -> None:
    api.set_environment("MODE", "new", keep="run-1")
    answers: list[bool] = []
    deadline = time.monotonic() + 10
    while api.status().ready < 3 or api.status().revision != "2":
        answers.append(ask(cluster.address_of("api")) is not None)
        assert time.monotonic() < deadline
    assert all(answers)


def test_the_environment_goes_back_to_what_the_first_change_of_the_run_found(
    api: KubernetesDeployment, cluster: LocalKubernetes
) -> None:
    api.set_environment("DATABASE_URL", NEW, keep="run-1")
    assert not api.set_environment("DATABASE_URL", NEW, keep="run-1")
    api.set_environment("DATABASE_URL", "postgresql://elsewhere/", keep="run-1")
    api.set_environment("MODE", "recovery", keep="run-1")

    assert api.put_back_environment("DATABASE_URL", keep="run-1")
    assert api.put_back_environment("MODE", keep="run-1")
    assert not api.put_back_environment("MODE", keep="run-1")
    assert not api.put_back_environment("DATABASE_URL", keep="another-run")

    assert api.wait_ready(10).environment == {"DATABASE_URL": OLD}
    assert BEFORE not in cluster.objects.get(DEPLOYMENT)["metadata"]["annotations"]


def test_a_reference_to_a_secret_is_replaced_whole_and_put_back_whole(
    api: KubernetesDeployment, cluster: LocalKubernetes
) -> None:
    reference = {"secretKeyRef": {"name": "db", "key": "dsn"}}
    secret = Key("v1", "secrets", "default", "db")
    cluster.objects.create(secret, {"kind": "Secret", "metadata": {}, "stringData": {"dsn": "s"}})

    def referring(item: Object) -> Object:
        env = [{"name": "PASSWORD", "valueFrom": reference}]
        item["spec"]["template"]["spec"]["containers"][0]["env"] = env
        return item

    cluster.objects.edit(DEPLOYMENT, referring)
    assert api.wait_ready(10).environment == {"PASSWORD": "from secret db/dsn"}
    assert ask(cluster.address_of("api"))["PASSWORD"] == "s"  # type: ignore[index]

    api.set_environment("PASSWORD", "plain", keep="run-1")
    api.wait_ready(10)
    assert ask(cluster.address_of("api"))["PASSWORD"] == "plain"  # type: ignore[index]
    api.put_back_environment("PASSWORD", keep="run-1")
    assert api.wait_ready(10).environment == {"PASSWORD": "from secret db/dsn"}


def test_somebody_elses_change_in_between_is_kept(
    cloud: LocalCloud, cluster: LocalKubernetes
) -> None:
    api = reach(cloud, cluster)
    reads = api.get
    meddled: list[int] = []

    def meddling(place: object) -> Object:
        found = reads(place)  # type: ignore[arg-type]
        if len(meddled) < 2:
            meddled.append(1)
            cluster.objects.annotate(DEPLOYMENT, {"somebody": f"was here {len(meddled)}"})
        return found

    api.get = meddling  # type: ignore[method-assign]
    deployment(api).set_environment("MODE", "new", keep="run-1")
    stored = cluster.objects.get(DEPLOYMENT)
    assert stored["metadata"]["annotations"]["somebody"] == "was here 2"
    assert [status for *_, status in cluster.requests].count(409) == 2
    assert deployment(reach(cloud, cluster)).status().environment["MODE"] == "new"


def test_a_rollout_that_cannot_succeed_is_an_error_that_names_the_pod_and_why(
    api: KubernetesDeployment, cluster: LocalKubernetes
) -> None:
    api.set_environment("DATABASE_URL", "broken", keep="run-1")
    with pytest.raises(CheckFailed) as caught:
        api.wait_ready(30)
    assert caught.value.instance_code == "rollout-stuck"
    assert "the cluster gave it up" in caught.value.message
    # Whether it waits to be started again or was just started is a matter of the moment.
    assert re.search(r"ended with 1 \(Error\), \d+ restarts?", caught.value.message)
    assert caught.value.context["pods"][0].startswith("api-deployment-")
    assert ask(cluster.address_of("api")) is not None  # the old ones still serve


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"image": "nexus/unknown:2"}, "ImagePullBackOff"),
        ({"command": ["/no/such/program"]}, "StartError"),
        (
            {"env": [{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}]},
            'CreateContainerConfigError, configmap "c" not found',
        ),
    ],
)
def test_what_a_pod_waits_for_is_told_when_the_time_is_over(
    api: KubernetesDeployment, cluster: LocalKubernetes, change: Object, why: str
) -> None:
    def broken(item: Object) -> Object:
        item["spec"]["progressDeadlineSeconds"] = 600
        item["spec"]["template"]["spec"]["containers"][0].update(change)
        return item

    cluster.objects.edit(DEPLOYMENT, broken)
    with pytest.raises(CheckFailed) as caught:
        api.wait_ready(1)
    assert caught.value.instance_code == "rollout-stuck"
    assert why in caught.value.message


def test_everything_ends_with_the_cluster(cloud: LocalCloud, tmp_path: Path) -> None:
    with tiny_cluster(cloud, tmp_path / "short") as running:
        processes = pids(running)
        assert len(processes) == 3
    assert not any(map(lives, processes))
