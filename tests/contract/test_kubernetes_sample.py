"""The sample application in a cluster: what stopping and configuring it does to a real database."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
import pytest

from chalicelib.adapters.clock import SystemClock
from chalicelib.adapters.http.service import Patience
from chalicelib.adapters.kubernetes.api import KubernetesApi
from chalicelib.adapters.kubernetes.deployment import KubernetesDeployment
from chalicelib.adapters.kubernetes.token import EksAccess
from chalicelib.adapters.secrets import as_url
from chalicelib.errors import CheckFailed
from leeward.local.cloud import LocalCloud
from leeward.local.kubernetes.stage import LocalClusters, local_clusters
from leeward.local.ledger import read_ledger
from leeward.local.production import APPLICATION, SUPERUSER, Production, store_secrets
from leeward.local.sample_app import create_schema
from leeward.plan_file import load_plan
from tests.clouds import wait_for
from tests.kubernetes_clusters import ask
from tests.scenarios.drills import PLAN

OTHER = "nexus_recovery"


@dataclass
class Stage:
    production: Production
    clusters: LocalClusters
    api: KubernetesDeployment
    address: str

    def written(self, database: str) -> int:
        with psycopg.connect(self.production.dsn(SUPERUSER, database)) as connection:
            row = connection.execute("SELECT count(*) FROM assets").fetchone()
        assert row is not None
        return int(row[0])

    def url(self, database: str) -> str:
        return as_url(self.production.dsn(APPLICATION, database))


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    plan = load_plan(PLAN).plan
    with (
        LocalCloud(schedules=False) as cloud,
        Production(cloud.folder / "production", cloud.reaper) as production,
        local_clusters(cloud, plan, rate=20) as clusters,
    ):
        create_schema(production.dsn(APPLICATION), projects=50)
        with psycopg.connect(production.dsn(SUPERUSER), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {OTHER} OWNER {APPLICATION}")
        create_schema(production.dsn(APPLICATION, OTHER), projects=50)
        store_secrets(
            cloud.client("secretsmanager"),
            production,
            operator="nexus/db/operator",
            application="nexus/db/application",
        )
        cloud.client("s3").create_bucket(Bucket="nexus-assets")
        clusters.deploy("nexus-api")
        local, patience = clusters.of("nexus-api"), Patience(attempts=3, seconds=5)
        access = EksAccess(cloud.client("sts"), local.cluster)
        api = KubernetesApi(local.cluster, local.endpoint, local.ca, access, patience)
        deployment = KubernetesDeployment(
            api, "api-deployment", namespace="default", clock=SystemClock(), poll_seconds=0.1
        )
        yield Stage(production, clusters, deployment, local.address_of("nexus-api"))


def test_nothing_is_written_while_it_is_stopped_and_every_instance_writes_again(
    stage: Stage,
) -> None:
    stage.api.stop(30)
    before = stage.written("nexus")
    time.sleep(0.5)
    assert stage.written("nexus") == before
    assert ask(stage.address) is None

    stage.api.start(3)
    assert stage.api.wait_ready(60).ready == 3
    wait_for(lambda: stage.written("nexus") > before, "nothing is written")

    def ledgers() -> list[int]:
        return [len(read_ledger(path)) for path in stage.clusters.ledgers.iterdir()]

    # Three before, three now.
    wait_for(lambda: len([it for it in ledgers() if it]) == 6, "not every instance writes")


def test_when_the_step_is_green_the_old_database_is_written_by_nobody(stage: Stage) -> None:
    stage.api.set_environment("DATABASE_URL", stage.url(OTHER), keep="run-1")
    assert stage.api.wait_ready(60).ready == 3
    old, new = stage.written("nexus"), stage.written(OTHER)
    wait_for(lambda: stage.written(OTHER) > new, "nothing is written to the new database")
    time.sleep(0.5)
    assert stage.written("nexus") == old
    stage.api.put_back_environment("DATABASE_URL", keep="run-1")
    stage.api.wait_ready(60)


def test_a_bucket_that_is_not_there_keeps_the_new_instances_from_serving(stage: Stage) -> None:
    stage.api.set_environment("ASSETS_BUCKET", "nexus-assets-recovery", keep="run-2")
    with pytest.raises(CheckFailed, match="runs, and its readiness probe fails") as caught:
        stage.api.wait_ready(4)
    assert caught.value.instance_code == "not-ready-in-time"
    told = ask(stage.address)
    assert told is not None
    assert told["assets_bucket"] == "nexus-assets"  # the old ones serve
    stage.api.put_back_environment("ASSETS_BUCKET", keep="run-2")
    assert stage.api.wait_ready(60).ready == 3
