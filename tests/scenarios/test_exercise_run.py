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
from leeward.packaging.parts import alarm_name
from tests.clouds import wait_for
from tests.scenarios.drills import SCENARIO
from tests.scenarios.stages import COMPONENT, Stage, stage
from tests.scenarios.untouched import Untouched, state_of

STAGING = "nexus-db-staging"
TEST = "restore-test-weekly"
# The same, with nothing left out.
WHOLE_TEST = "restore-test-monthly"
# The stage has no copies of these.
LEFT_OUT = dict.fromkeys(("nexus-uploads", "nexus-static", "nexus-config"), "not on this stage")


def leave_out(plan: dict[str, Any]) -> None:
    [weekly] = [it for it in plan["verification"] if it["kind"] == "restore-test"]
    weekly["leaves_out"] = LEFT_OUT


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("exercise"), leave_out) as made:
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


def standing(here: Stage, name: str = TEST) -> dict[str, Any]:
    [found] = [it for it in exercise(here, list=True)["exercises"] if it["name"] == name]
    return dict(found)


def carried_out(here: Stage, name: str = TEST) -> dict[str, Any]:
    """Begin the exercise and wait for its end; the occasion."""
    before = len(standing(here, name)["occasions"])
    exercise(here)
    exercise(here, begin=name)

    def over() -> dict[str, Any] | None:
        exercise(here)
        occasions = standing(here, name)["occasions"]
        last = occasions[-1] if len(occasions) > before else None
        return last if last and last["status"] in ("done", "failed", "missed") else None

    return wait_for(over, f"{name} did not end", seconds=600)


def outcomes(occasion: dict[str, Any]) -> dict[str, str]:
    return {it["component"]: it["outcome"] for it in occasion["tests"]}


def databases(server: Production) -> set[str]:
    with psycopg.connect(server.dsn(SUPERUSER, "postgres")) as connection:
        return {str(name) for (name,) in connection.execute("SELECT datname FROM pg_database")}


@pytest.mark.untouched("nexus-studio", SCENARIO, "drill")
def test_a_restore_test_is_the_real_machine_and_leaves_no_trace(
    here: Stage, staging: Production, untouched: Untouched
) -> None:
    databases_before = databases(staging)
    with untouched(here, lambda: state_of(here.cloud, here.plan, here.production)):
        occasion = carried_out(here)
    [result] = occasion["results"]
    records = here.records.read(result["incident"])
    failed = [it.body for it in records if it.kind in ("step-failed", "undo-failed")]
    assert (occasion["status"], result["shortfalls"], failed) == ("done", [], []), occasion["note"]
    assert outcomes(occasion) == {COMPONENT: "sound"} | dict.fromkeys(LEFT_OUT, "left-out")
    assert "rows-alike: " in occasion["tests"][0]["found"]
    assert "left out by the plan: nexus-uploads, nexus-static, nexus-config" in occasion["note"]
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
    # What a person deleted since the point is explained by WAL that the spot check asks for.
    with psycopg.connect(here.production.dsn(SUPERUSER)) as connection:
        connection.execute("DELETE FROM assets WHERE id % 2 = 0")
    spot = here.invoke("prove", {"component": COMPONENT, "spot": True, "seed": 5})
    [rows] = re.findall(r"rows-alike: ([^;]*seed 5: [^;]*);", spot["found"])
    counts = {verdict: int(count) for count, verdict in re.findall(r"(\d+) ([a-z-]+)", rows)}
    assert counts["equal"] > 0 < counts["gone"], rows
    assert "not looked up" not in spot["found"]
    assert here.cloud.rights()["leeward-primary-prove"].denied == ()
    assert (databases(here.production), databases(staging)) == before


@pytest.mark.untouched("nexus-studio", SCENARIO, "failed step")
def test_what_a_drill_did_is_taken_back_when_a_step_fails(
    here: Stage, staging: Production, untouched: Untouched
) -> None:
    with psycopg.connect(here.production.dsn(SUPERUSER)) as connection:
        connection.execute("TRUNCATE projects CASCADE")
    here.job("fetch_wal")  # what is tested first is the newest point, with the WAL that is stored
    databases_before = databases(staging)
    with untouched(here, lambda: state_of(here.cloud, here.plan, here.production)):
        occasion = carried_out(here, WHOLE_TEST)
    [result] = occasion["results"]
    records = here.records.read(result["incident"])
    assert [it.step for it in records if it.kind == "step-failed"] == ["verify"]
    assert [it.step for it in records if it.kind == "step-undone"] == ["stop-writes"]
    assert (occasion["status"], result["outcome"]) == ("failed", "failed")
    assert standing(here, WHOLE_TEST)["stands"] is False
    # Every component that failed is named, and so is one that nothing can restore.
    assert outcomes(occasion) == {
        COMPONENT: "failed", "nexus-uploads": "failed", "nexus-config": "not-tried",
        "nexus-static": "not-tried",
    }  # fmt: skip
    for told in ("nexus-static: not tried: nothing", f"{COMPONENT}: failed: ", "projects-exist"):
        assert told in occasion["note"], occasion["note"]
    test = next(it for it in occasion["tests"] if it["component"] == COMPONENT)
    assert test["before_outcome"] == "sound"
    assert test["before_seconds"] > 0
    named = [alarm_name("exercises", "failing")]
    [alarm] = here.cloud.client("cloudwatch").describe_alarms(AlarmNames=named)["MetricAlarms"]
    assert alarm["StateValue"] == "ALARM"
    assert databases(staging) == databases_before
    assert COMPONENT in result["incident"]


def test_it_may_do_what_it_does_and_no_more(here: Stage, staging: Production) -> None:
    rights = here.cloud.rights()["leeward-primary-exercise"]
    assert rights.denied == ()
    # Where the last run of an incident failed, whether it still runs is asked before the next.
    # A communication drill's incident is closed: tests/scenarios/test_people.py.
    assert set(rights.unused) <= {"states:DescribeExecution", "dynamodb:DeleteItem"}
