"""The exercise `failover-quarterly` of Nexus: the regional failover, and then the way back from it,
each as a drill on stand-ins."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from chalicelib.plan.components import Postgres
from chalicelib.plan.records import EvidenceRecord
from leeward.commands.drill import load_runnable
from leeward.local.cloud import PRIMARY_REGION, STANDBY_REGION
from leeward.local.drill import DrillOptions
from leeward.local.production import APPLICATION, SUPERUSER, Production, store_secrets
from leeward.local.sample_app import create_schema
from leeward.local.stages.outage import OutageDrill
from tests.clouds import wait_for
from tests.scenarios.drills import PARTIAL, PLAN
from tests.scenarios.other_run import held_by_another
from tests.scenarios.untouched import State, Untouched, drill_of, state_of
from tests.scenarios.untouched_machines import pods_of, still

SCENARIO, WAY_BACK = "regional-outage", "failback"
EXERCISE = "failover-quarterly"
STAGING = "nexus-db-staging"


class Stage(OutageDrill):
    """The stage of `leeward drill regional-outage`, before anything is lost, and a staging
    environment at home: what stands in for it when the way back is drilled."""

    def start_parts(self, stack: ExitStack, deploying: Future[None]) -> None:
        self.at_home = Production(self.cloud.folder / "staging-at-home", self.cloud.reaper)
        stack.callback(self.at_home.stop)
        self.at_home.start()
        create_schema(self.at_home.dsn(APPLICATION), projects=5)
        super().start_parts(stack, deploying)
        staging = self.clusters.of("nexus-api-staging")
        staging.apply(self.clusters.manifests_of("nexus-api-staging"))

    def _store_logins(self) -> None:
        """Those of staging are replicated, and changed at home alone."""
        super()._store_logins()
        found = self.plan.components[STAGING]
        assert isinstance(found, Postgres)
        logins = {"operator": found.operator_secret, "application": found.application_secret}
        client = self.cloud.client("secretsmanager", PRIMARY_REGION)
        store_secrets(client, self.at_home, **logins)
        for secret in logins.values():
            client.replicate_secret_to_regions(
                SecretId=secret, AddReplicaRegions=[{"Region": STANDBY_REGION}]
            )

    def answer_people(self, scenario: str, incident: str) -> None:
        """Until the run has ended."""
        self.options = replace(self.options, scenario=scenario)
        self.follow(incident)

    def stand_ins(self) -> dict[str, Any]:
        """What a drill of the way back acts on, but for the rows of whoever writes there."""
        databases = {}
        for server in (self.at_home, self.staging):
            with psycopg.connect(server.dsn(SUPERUSER)) as connection:
                databases[server.port] = (
                    connection.execute("SELECT datname FROM pg_database ORDER BY 1").fetchall(),
                    connection.execute(
                        "SELECT rolname, rolcanlogin FROM pg_roles ORDER BY 1"
                    ).fetchall(),
                )
        wanted = {
            name: [
                it["spec"]["replicas"]
                for it in self.clusters.of(name).objects.list("apps/v1", "deployments")
            ]
            for name in ("nexus-api-staging", "nexus-api-dr-drill")
        }
        return {"databases": databases, "replicas": wanted}

    def everything(self) -> State:
        production = self.clusters.of("nexus-api"), self.clusters.of("nexus-api-dr")
        return state_of(
            self.cloud, self.plan, self.home, self.spare, clusters=production, others=self.others
        )

    def tried(self, scenario: str, reason: str) -> list[EvidenceRecord]:
        """A drill that somebody declares; it must fail."""
        self.options = replace(self.options, scenario=scenario)
        score, records = drill_of(self, reason)
        assert score.outcome == "failed"
        return records

    def standing(self) -> dict[str, Any]:
        listed = self.invoke("exercise", {"list": True})["exercises"]
        return dict(next(it for it in listed if it["name"] == EXERCISE))


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    plan, _ = load_runnable(PLAN, SCENARIO)
    out = tmp_path_factory.mktemp("regional-drill")
    options = DrillOptions(SCENARIO, "", "region-hangs", out, projects=500, rate=30)
    made = Stage(plan, options, lambda told: None)
    with ExitStack() as stack:
        made.set_stage(stack)
        made.prepare()
        yield made


def exercised(here: Stage) -> dict[str, Any]:
    """The occasion, when it is over."""
    here.invoke("exercise", {})
    here.invoke("exercise", {"begin": EXERCISE})
    heard: set[str] = set()

    def over() -> dict[str, Any] | None:
        here.invoke("exercise", {})
        occasions = here.standing()["occasions"]
        for it in occasions[-1]["results"] if occasions else ():
            if it["incident"] not in heard:
                heard.add(it["incident"])
                here.answer_people(it["scenario"], it["incident"])
        return occasions[-1] if occasions and occasions[-1]["ended_at"] else None

    found: dict[str, Any] = wait_for(over, f"{EXERCISE} did not end", seconds=300)
    return found


@pytest.mark.untouched("nexus-studio", SCENARIO, "drill")
@pytest.mark.untouched("nexus-studio", WAY_BACK, "drill")
def test_failover_and_way_back_are_exercised_and_production_stays_as_it_was(
    here: Stage, untouched: Untouched
) -> None:
    stand_ins = here.stand_ins()
    with still(pods_of(here.clusters.of("nexus-api"))), untouched(here, here.everything):
        occasion = exercised(here)
    by_scenario = {it["scenario"]: it for it in occasion["results"]}
    assert list(by_scenario) == [SCENARIO, WAY_BACK]
    records = {name: here.records.read(it["incident"]) for name, it in by_scenario.items()}
    wrong = [
        (name, it.step, it.body["message"])
        for name, chain in records.items()
        for it in chain
        if it.kind in ("step-failed", "undo-failed")
    ]
    assert wrong == []
    # What the plan cannot bring back makes the exercise a failed one, and nothing else does.
    assert occasion["status"] == "failed"
    assert [it["shortfalls"] for it in occasion["results"]] == [PARTIAL[1:], []]
    assert here.stand_ins() == stand_ins
    undone = {
        name: {it.step for it in chain if it.kind == "step-undone"}
        for name, chain in records.items()
    }
    assert {"fence", "load", "open-database", "start", "update-dns"} <= undone[SCENARIO]
    assert undone[WAY_BACK] == {
        "stop-home", "fence-home", "stop-dr", "fence-dr", "load", "open-home", "start-home",
        "names",
    }  # fmt: skip
    back = by_scenario[WAY_BACK]
    assert 0 < back["rto_seconds"] < back["rto_objective_seconds"]
    assert back["rpo_seconds"] == 0


def undone(records: list[EvidenceRecord]) -> set[str]:
    return {it.step for it in records if it.kind == "step-undone"}


def failed(records: list[EvidenceRecord]) -> list[str]:
    """The steps that failed, and those that could not be taken back."""
    return [it.step for it in records if it.kind in ("step-failed", "undo-failed")]


@pytest.mark.untouched("nexus-studio", SCENARIO, "failed step")
def test_a_failover_that_was_drilled_is_taken_back_when_its_names_are_held(
    here: Stage, untouched: Untouched
) -> None:
    stand_ins = here.stand_ins()
    with (
        still(pods_of(here.clusters.of("nexus-api"))),
        held_by_another(here.state(), "nexus-names-drill"),
        untouched(here, here.everything),
    ):
        records = here.tried(SCENARIO, "names are held")
    assert failed(records) == ["update-dns"]
    assert undone(records) >= {"fence", "load", "open-database", "start"}
    assert here.stand_ins() == stand_ins


@pytest.mark.untouched("nexus-studio", WAY_BACK, "failed step")
def test_a_way_back_that_was_drilled_is_taken_back_when_its_names_are_held(
    here: Stage, untouched: Untouched
) -> None:
    stand_ins = here.stand_ins()
    with (
        still(pods_of(here.clusters.of("nexus-api"))),
        held_by_another(here.state(), "nexus-names-drill"),
        untouched(here, here.everything),
    ):
        records = here.tried(WAY_BACK, "early: names are held")
    assert failed(records) == ["names"]
    assert undone(records) >= {"stop-home", "fence-home", "stop-dr", "load", "open-home"}
    assert here.stand_ins() == stand_ins
