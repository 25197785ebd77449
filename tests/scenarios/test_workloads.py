"""The steps on application servers, by the deployed package, on clusters with real processes."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from chalicelib.adapters.clock import SystemClock
from chalicelib.adapters.dynamodb_state import DynamoDbState
from chalicelib.adapters.s3.store import S3ObjectStore
from chalicelib.evidence.records import StoredRecords
from chalicelib.plan.records import format_time
from leeward.local.cloud import PRIMARY_REGION, LocalCloud
from leeward.local.deploy import deploy
from leeward.local.kubernetes import LocalKubernetes
from leeward.local.kubernetes.stage import IMAGE, LocalClusters, local_clusters
from leeward.packaging.package import build_package
from leeward.plan_file import load_plan
from tests.kubernetes_clusters import ask
from tests.scenarios.drills import PLAN

TINY = [sys.executable, "-S", str(Path(__file__).parents[1] / "tiny_app.py")]
DSN = "host=db.example.org port=5433 dbname=nexus_recovery user=nexus_app password=s3cr/et"
URL = "postgresql://nexus_app:s3cr%2Fet@db.example.org:5433/nexus_recovery"


@dataclass
class Stage:
    """`do` and `undo` ask the deployed function as a state machine does."""

    cloud: LocalCloud
    clusters: LocalClusters
    state: DynamoDbState
    records: StoredRecords
    numbers: Iterator[int] = field(default_factory=count)

    def run(self, scenario: str = "ransomware", *, drill: bool = False, site: str = "") -> str:
        run_id = f"run-20261122T0845{next(self.numbers):02d}Z-nexus-api"
        now = format_time(datetime.now(UTC))
        item = {"scenario": scenario, "component": "nexus-api", "alarm_at": now, "moment": None}
        more = {"incident_id": run_id.replace("run-", "inc-"), "drill": drill, "site": site}
        assert self.state.create(f"run#{run_id}", "run", item | more | {"status": "running"})
        return run_id

    def end(self, run_id: str) -> None:
        run = self.state.get(f"run#{run_id}", "run")
        assert run is not None
        ended = {k: v for k, v in run.items() if k != "sort"} | {"status": "ended"}
        self.state.replace(f"run#{run_id}", "run", ended, expected={})

    def do(self, run_id: str, step: str, uses: str, **inputs: Any) -> dict[str, Any]:
        return self.invoke({"run_id": run_id, "step": step, "uses": uses, "inputs": inputs})

    def undo(self, run_id: str, step: str, uses: str, **inputs: Any) -> str:
        event = {"run_id": run_id, "step": step, "uses": uses, "inputs": inputs, "undo": True}
        return str(self.invoke(event)["found"])

    def invoke(self, event: dict[str, Any]) -> dict[str, Any]:
        """What the function returns, or {"errorType", "errorMessage"}."""
        answer = self.cloud.client("lambda").invoke(
            FunctionName="leeward-primary-workloads", Payload=json.dumps(event)
        )
        return dict(json.loads(answer["Payload"].read()))

    def said(self, run_id: str) -> str:
        chain = self.records.read(run_id.replace("run-", "inc-"))
        return json.dumps([it.to_json() for it in chain])

    def production(self) -> LocalKubernetes:
        return self.clusters.of("nexus-api")


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    plan = load_plan(PLAN).plan
    with ExitStack() as stack:
        cloud = stack.enter_context(LocalCloud(schedules=False))
        clusters = stack.enter_context(local_clusters(cloud, plan, images={IMAGE: TINY}))
        deployed = deploy(cloud, build_package(clusters.plan, cloud.folder / "package"))
        storage, secrets = cloud.client("s3"), cloud.client("secretsmanager")
        clusters.store_manifests(cloud)
        for name in ("nexus/db/application", "nexus/db-staging/application"):
            secrets.create_secret(Name=name, SecretString=json.dumps({"dsn": DSN}))
        clusters.deploy()
        state = DynamoDbState(cloud.client("dynamodb"), deployed.names["StateTable"])
        evidence = S3ObjectStore(storage, deployed.names["EvidenceBucket"])
        yield Stage(cloud, clusters, state, StoredRecords(evidence, SystemClock()))


@pytest.fixture
def health(stage: Stage) -> Iterator[str]:
    """Production's address; afterwards everything is as it was before."""
    yield stage.production().address_of("nexus-api")
    stage.cloud.heal()
    stage.clusters.deploy("nexus-api")


def test_stopped_configured_started_verified_and_taken_back(stage: Stage, health: str) -> None:
    run = stage.run()
    assert ask(health) is not None

    stopped = stage.do(run, "stop", "service.stop", component="nexus-api")
    assert (stopped["stopped"], stopped["before"]) == (True, 3), stopped
    assert ask(health) is None
    assert stage.do(run, "stop", "service.stop", component="nexus-api") == stopped

    given = {"component": "nexus-api", "name": "DATABASE_URL", "address_of": "nexus-db"}
    assert stage.do(run, "point", "service.configure", **given)["changed"]
    bucket = {"component": "nexus-api", "name": "ASSETS_BUCKET", "value": "nexus-assets-recovery"}
    stage.do(run, "assets", "service.configure", **bucket)
    started = stage.do(run, "start", "service.start", component="nexus-api")
    assert started["ready"] == 3
    assert started["found"].endswith("as many as before the run stopped them")
    told = ask(health)
    assert told is not None
    assert (told["DATABASE_URL"], told["ASSETS_BUCKET"]) == (URL, "nexus-assets-recovery")
    verified = stage.do(run, "verify", "service.verify", component="nexus-api")
    assert "/health answers in" in verified["found"], verified

    assert "as before" in stage.undo(run, "start", "service.start", component="nexus-api")
    stage.undo(run, "assets", "service.configure", **bucket)
    stage.undo(run, "point", "service.configure", **given)
    stage.undo(run, "stop", "service.stop", component="nexus-api")
    told = ask(health)
    assert told is not None
    assert "DATABASE_URL" not in told
    assert told["ASSETS_BUCKET"] == "nexus-assets"
    assert "s3cr" not in stage.said(run)
    assert "nexus_recovery" in stage.said(run)
    stage.end(run)


def test_a_drill_acts_on_the_stand_in_alone_and_leaves_nothing(stage: Stage) -> None:
    run, staging = stage.run(drill=True), stage.clusters.of("nexus-api-staging")
    before = stage.production().objects.list("apps/v1", "deployments")
    requests = len(stage.production().requests)

    applied = stage.do(run, "apply", "service.apply", component="nexus-api")
    assert (applied["created"], applied["ready"]) == (1, 1), applied
    address = staging.address_of("nexus-api-staging")
    assert ask(address) is not None
    stage.do(run, "stop", "service.stop", component="nexus-api")
    assert ask(address) is None

    stage.undo(run, "stop", "service.stop", component="nexus-api")
    assert ask(address) is not None
    assert "1 of them" in stage.undo(run, "apply", "service.apply", component="nexus-api")
    assert staging.objects.list("apps/v1", "deployments") == []
    assert stage.production().objects.list("apps/v1", "deployments") == before
    assert len(stage.production().requests) == requests
    stage.end(run)


def test_at_another_site_the_stand_in_there_is_applied_and_verified(stage: Stage) -> None:
    run = stage.run("regional-outage", site="dr")
    applied = stage.do(run, "apply", "service.apply", component="nexus-api")
    assert applied["objects"] == ["deployments/api-deployment in default: created"], applied
    assert applied["ready"] == 3
    verified = stage.do(run, "verify", "service.verify", component="nexus-api")
    assert verified["ready"] == 3, verified
    stage.undo(run, "apply", "service.apply", component="nexus-api")
    stage.end(run)


def test_a_worker_killed_in_the_middle_is_followed_by_one_that_finishes(
    stage: Stage, health: str
) -> None:
    run = stage.run()
    asked = {"component": "nexus-api", "name": "MODE", "value": "recovery"}
    found: list[dict[str, Any]] = []

    def first() -> None:
        found.append(stage.do(run, "mode", "service.configure", **asked))

    cluster, worker = stage.production(), threading.Thread(target=first)
    done = sum(method == "PATCH" for method, *_ in cluster.requests)
    worker.start()
    while sum(method == "PATCH" for method, *_ in cluster.requests) == done:
        time.sleep(0.01)
    # The change is made, the rollout is waited for, nothing is recorded.
    stage.cloud.kill_worker("workloads")
    worker.join()
    assert found[0]["errorType"] == "Runtime.ExitError"

    second = stage.do(run, "mode", "service.configure", **asked)
    assert (second["changed"], second["ready"]) == (False, 3), second
    stage.undo(run, "mode", "service.configure", **asked)
    told = ask(health)
    assert told is not None
    assert "MODE" not in told
    stage.end(run)


def test_a_silent_cluster_stops_a_run_unless_its_site_is_lost(stage: Stage, health: str) -> None:
    run, lost = stage.run(), stage.run("regional-outage", site="dr")
    stage.cloud.fail(region=PRIMARY_REGION, services=("eks",), how="reset")
    error = stage.do(run, "stop", "service.stop", component="nexus-api")
    assert error["errorType"] == "Unavailable"
    stage.end(run)

    gone_on = stage.do(lost, "stop", "service.stop", component="nexus-api")
    assert gone_on["stopped"] is False, gone_on
    assert "nothing is stopped" in gone_on["found"]
    assert "go on without stopping nexus-api" in stage.said(lost)
    stage.cloud.heal()
    assert ask(health) is not None
    stage.end(lost)


def test_nobody_reaches_the_application_in_a_region_that_is_lost(stage: Stage) -> None:
    primary = stage.production().address_of("nexus-api")
    stage.cloud.fail(region=PRIMARY_REGION)
    try:
        assert ask(primary) is None
    finally:
        stage.cloud.heal()
    assert ask(primary) is not None


def test_two_runs_do_not_act_on_one_service_at_once(stage: Stage, health: str) -> None:
    first, second = stage.run(), stage.run()
    stage.do(first, "stop", "service.stop", component="nexus-api")
    error = stage.do(second, "start", "service.start", component="nexus-api")
    assert error["errorType"] == "Fenced"
    assert ask(health) is None
    stage.end(first)
    assert stage.do(second, "start", "service.start", component="nexus-api")["ready"] == 3
    stage.end(second)


@pytest.mark.parametrize(
    ("uses", "inputs", "error"),
    [
        ("service.stop", {"component": "nexus-db"}, "no service 'nexus-db'"),
        ("service.start", {"component": "nexus-api", "replicas": 0}, "at least 1, found 0"),
        ("service.configure", {"component": "nexus-api", "name": "X"}, "both or neither"),
        ("service.apply", {"component": "nexus-api"}, "an address in the plan, found none"),
        (
            "service.apply",
            {"component": "nexus-api", "manifests": "s3://nexus-deploy-dr/k8s/prod/"},
            "found none",
        ),
    ],
)
def test_what_cannot_be_done_is_one_clear_error_and_changes_nothing(
    stage: Stage, health: str, uses: str, inputs: dict[str, Any], error: str
) -> None:
    run, before = stage.run(), stage.production().objects.list("apps/v1", "deployments")
    assert error in stage.do(run, "x", uses, **inputs)["errorMessage"]
    assert stage.production().objects.list("apps/v1", "deployments") == before
    stage.end(run)


def test_the_function_has_the_rights_that_it_needs_and_no_other(stage: Stage) -> None:
    """Last in this file: it looks at what all the others did, none of it on a host."""
    rights = stage.cloud.rights()["leeward-primary-workloads"]
    assert rights.denied == ()
    assert {it for it in rights.unused if not it.startswith(("ec2:", "ssm:"))} == set()
