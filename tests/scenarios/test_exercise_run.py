"""An exercise of the deployed plan: the real machine, on what stands in for drills."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from chalicelib.adapters.s3.store import S3ObjectStore
from chalicelib.plan.components import Postgres
from leeward.local.production import APPLICATION, SUPERUSER, Production, store_secrets
from leeward.local.sample_app import create_schema
from tests.clouds import wait_for
from tests.scenarios.stages import COMPONENT, Stage, stage
from tests.scenarios.untouched import state_of

STAGING = "nexus-db-staging"
TEST = "restore-test-weekly"


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("exercise")) as made:
        made.application.stop()
        made.job("fetch_wal")
        yield made


@pytest.fixture(scope="module")
def staging(here: Stage) -> Iterator[Production]:
    component = here.plan.components[STAGING]
    assert isinstance(component, Postgres)
    with Production(here.cloud.folder / "staging", here.cloud.reaper) as server:
        create_schema(server.dsn(APPLICATION), projects=10)
        store_secrets(
            here.cloud.client("secretsmanager"),
            server,
            operator=component.operator_secret,
            application=component.application_secret,
        )
        yield server


def exercise(here: Stage, **event: Any) -> dict[str, Any]:
    return here.invoke("exercise", event)


def standing(here: Stage) -> dict[str, Any]:
    [found] = [it for it in exercise(here, list=True)["exercises"] if it["name"] == TEST]
    return dict(found)


def carried_out(here: Stage) -> dict[str, Any]:
    """Begin the exercise and wait for its end; the occasion."""
    before = len(standing(here)["occasions"])
    exercise(here)
    exercise(here, begin=TEST)

    def over() -> dict[str, Any] | None:
        exercise(here)
        occasions = standing(here)["occasions"]
        last = occasions[-1] if len(occasions) > before else None
        return last if last and last["status"] in ("done", "failed", "missed") else None

    return wait_for(over, f"{TEST} did not end", seconds=120)


def databases(server: Production) -> set[str]:
    with psycopg.connect(server.dsn(SUPERUSER, "postgres")) as connection:
        return {str(name) for (name,) in connection.execute("SELECT datname FROM pg_database")}


def test_a_restore_test_is_the_real_machine_and_leaves_no_trace(
    here: Stage, staging: Production
) -> None:
    before, databases_before = state_of(here.cloud, here.plan, here.production), databases(staging)
    occasion = carried_out(here)
    [result] = occasion["results"]
    records = here.records.read(result["incident"])
    failed = [it.body for it in records if it.kind in ("step-failed", "undo-failed")]
    assert (occasion["status"], result["shortfalls"], failed) == ("done", [], [])
    assert 0 < result["rto_seconds"] < result["rto_objective_seconds"]
    assert result["estimate_seconds"] == 3600
    assert {it.step for it in records if it.kind == "step-undone"} == {
        "stop-writes", "load", "resume",
    }  # fmt: skip
    [loaded] = [
        it.body["found"] for it in records if (it.step, it.kind) == ("load", "step-finished")
    ]
    with psycopg.connect(here.production.dsn(SUPERUSER)) as connection:
        [(assets,)] = connection.execute("SELECT count(*) FROM assets").fetchall()
    [rows] = [int(word.replace(",", "")) for word in re.findall(r"([\d,]+) rows", loaded)]
    assert rows > assets > 4000
    assert state_of(here.cloud, here.plan, here.production) == before
    assert databases(staging) == databases_before
    secret = here.cloud.client("secretsmanager").get_secret_value(
        SecretId=here.plan.components[STAGING].application_secret  # type: ignore[union-attr]
    )
    assert "dbname=nexus " in json.loads(secret["SecretString"])["dsn"] + " "


def test_the_database_is_proven_by_a_restore_that_touches_no_server(
    here: Stage, staging: Production
) -> None:
    before = databases(here.production), databases(staging)
    told = here.invoke("prove", {"component": COMPONENT, "location": "primary"})
    assert "projects-exist: " in told["found"]
    store = S3ObjectStore(
        here.cloud.client("s3"), here.deployed.names["BackupBucket"], f"{COMPONENT}/"
    )
    proof = json.loads(store.get(f"points/{told['point']}/proof.json"))
    assert all(check["ok"] for check in proof["checks"])
    assert proof["recovered_lsn"] > 0
    spot = here.invoke("prove", {"component": COMPONENT, "spot": True})
    assert spot["point"]
    assert here.cloud.rights()["leeward-primary-prove"].denied == ()
    assert (databases(here.production), databases(staging)) == before


def test_what_a_drill_did_is_taken_back_when_a_step_fails(here: Stage, staging: Production) -> None:
    with psycopg.connect(here.production.dsn(SUPERUSER)) as connection:
        connection.execute("TRUNCATE projects CASCADE")
    before, databases_before = state_of(here.cloud, here.plan, here.production), databases(staging)
    occasion = carried_out(here)
    [result] = occasion["results"]
    records = here.records.read(result["incident"])
    assert [it.step for it in records if it.kind == "step-failed"] == ["verify"]
    assert [it.step for it in records if it.kind == "step-undone"] == ["stop-writes"]
    assert (occasion["status"], result["outcome"]) == ("failed", "failed")
    assert standing(here)["stands"] is False
    assert state_of(here.cloud, here.plan, here.production) == before
    assert databases(staging) == databases_before
    assert COMPONENT in result["incident"]


def test_it_may_do_what_it_does_and_no_more(here: Stage, staging: Production) -> None:
    rights = here.cloud.rights()["leeward-primary-exercise"]
    assert rights.denied == ()
    # Where the last run of an incident failed, whether it still runs is asked before the next.
    # A communication drill's incident is closed: tests/scenarios/test_people.py.
    assert set(rights.unused) <= {"states:DescribeExecution", "dynamodb:DeleteItem"}
