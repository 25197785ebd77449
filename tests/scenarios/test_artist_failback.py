"""The way back of Artist Tech: first as a drill on stand-ins, then for real, after a lost site.

For real the worker of each step dies once, also of those that took over.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from chalicelib.evidence.scorecard import Scorecard
from chalicelib.plan.components import Postgres
from chalicelib.plan.records import EvidenceRecord
from leeward.commands.drill import load_runnable
from leeward.local.artisttech import UPLOADS, set_up_host
from leeward.local.cloud import PRIMARY_REGION, STANDBY_REGION
from leeward.local.drill import DrillOptions
from leeward.local.production import SUPERUSER, Production, store_secrets
from leeward.local.sample_app import create_schema
from leeward.local.stages.artist import KEYS, wait_until
from leeward.local.stages.artist_failback import ArtistFailbackDrill
from tests.commands import ARTIST
from tests.scenarios.striker import Striker, undisturbed
from tests.scenarios.test_artist_drill import digest_of
from tests.scenarios.untouched import state_of

SCENARIO = "failback"
AT_HOME, AWAY = "artist-db-drill", "artist-db-secondary-drill"


class Standing(ArtistFailbackDrill):
    """With what stands in for drills at both sites: a database and a server each."""

    def start_parts(self, stack: ExitStack, deploying: Future[None]) -> None:
        super().start_parts(stack, deploying)
        self.drill_home = self._stand_in(stack, AT_HOME, PRIMARY_REGION, projects=40)
        self.drill_away = self._stand_in(stack, AWAY, STANDBY_REGION, projects=1)
        client = self.cloud.client("secretsmanager", PRIMARY_REGION)
        for secret in self._logins(AT_HOME).values():
            client.replicate_secret_to_regions(
                SecretId=secret, AddReplicaRegions=[{"Region": STANDBY_REGION}]
            )
        self.old = self.launch("app-server-drill")
        self.there = self.launch("app-server-secondary-drill")
        set_up_host(
            self.cloud.hosts.root(self.there),
            self.repository,
            self.revision,
            secret=self._logins(AWAY)["application"],
            password=self.password,
        )
        script = "set -e; cd /opt/artisttech; npm run build; systemctl start artisttech nginx"
        status, _, errors = self.cloud.hosts.run(self.there, script, limit_seconds=60)
        assert status == 0, errors
        with self._redis_on(self.there) as client:
            for number in range(KEYS):
                client.set(f"session:{number}", f"artist {number}", ex=3600 + number)
        wait_until(lambda: self.page(self.there).get("healthy"), "the stand-in did not come up")

    def _logins(self, name: str) -> dict[str, str]:
        found = self.plan.components[name]
        assert isinstance(found, Postgres)
        return {"operator": found.operator_secret, "application": found.application_secret}

    def _stand_in(self, stack: ExitStack, name: str, region: str, *, projects: int) -> Production:
        found = self.plan.components[name]
        assert isinstance(found, Postgres)
        server = Production(
            self.cloud.folder / name,
            self.cloud.reaper,
            database=found.database,
            application=found.application_role,
        )
        stack.callback(server.stop)
        server.start()
        create_schema(server.dsn(found.application_role), projects=projects)
        store_secrets(self.cloud.client("secretsmanager", region), server, **self._logins(name))
        return server

    def everything(self) -> dict[str, Any]:
        """Production, byte for byte: nobody writes while a drill is tried here."""
        found = state_of(self.cloud, self.plan, self.production, self.spare)
        for region in (PRIMARY_REGION, STANDBY_REGION):
            servers = map(json.loads, found[f"instances {region}"])
            found[f"instances {region}"] = [it for it in servers if it["state"] != "terminated"]
        return found | {"files": digest_of(self.cloud.hosts.root(self.host))}

    def tried(self, reason: str, *, drill: bool = False) -> tuple[Scorecard, list[EvidenceRecord]]:
        self.options = replace(self.options, scenario=SCENARIO)
        incident = self.declare(reason, drill=drill)
        score = self.follow(incident)
        chain = self.records.read(incident)
        return score, [it for it in chain if it.run_id == score.run_id]


@pytest.fixture(scope="module")
def striker() -> Striker:
    return Striker(active=False)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory, striker: Striker) -> Iterator[Standing]:
    plan, stage = load_runnable(ARTIST, SCENARIO)
    assert stage is ArtistFailbackDrill
    out = tmp_path_factory.mktemp("artist-failback")
    options = DrillOptions(SCENARIO, "", "site-lost", out, projects=200, rate=30)
    made = striker.drill = Standing(plan, options, striker.hear)
    with ExitStack() as stack:
        made.set_stage(stack)
        made.prepare()
        yield made


def databases_of(server: Production) -> list[tuple[str, bool]]:
    """With whether its application may log in."""
    with psycopg.connect(server.dsn(SUPERUSER)) as connection:
        rows = connection.execute(
            "SELECT datname, rolcanlogin FROM pg_database, pg_roles"
            " WHERE rolname = 'artisttech' ORDER BY 1"
        ).fetchall()
    return [(str(name), bool(may)) for name, may in rows]


def failures(records: list[EvidenceRecord]) -> list[tuple[str, str]]:
    kinds = ("step-failed", "undo-failed")
    return [(it.step, it.body["message"]) for it in records if it.kind in kinds]


def done(records: list[EvidenceRecord]) -> dict[str, Any]:
    return {it.step: it.body["outputs"] for it in records if it.kind == "step-finished"}


def test_a_drill_of_the_way_back_leaves_no_trace(here: Standing) -> None:
    here.run_on_host("systemctl stop nginx artisttech")
    before = here.everything()
    servers = (here.drill_home, here.drill_away)
    databases = [databases_of(it) for it in servers]
    score, records = here.tried("the yearly drill", drill=True)
    assert failures(records) == []
    assert (score.outcome, score.rpo_seconds) == ("recovered", 0)
    assert score.proven
    outputs = done(records)
    assert outputs["load"]["rows"] > 40 * 4
    assert outputs["bring-files"]["files"] == UPLOADS + 1
    assert outputs["bring-redis"]["keys"] == KEYS
    assert {it.step for it in records if it.kind == "step-undone"} == {
        "server", "isolate-old", "fence-home", "stop-secondary", "fence-secondary", "load",
        "open-home", "take-name", "names",
    }  # fmt: skip
    assert here.everything() == before
    assert [databases_of(it) for it in servers] == databases
    wait_until(lambda: here.page(here.there).get("healthy"), "the stand-in is not as it was")
    here.run_on_host("systemctl start artisttech nginx")
    wait_until(lambda: here.page(here.host).get("healthy"), "the site did not come up")


def test_everything_goes_home_though_workers_die_at_every_step(
    here: Standing, striker: Striker, record_property: Callable[[str, object], None]
) -> None:
    striker.active = True
    here.options = replace(here.options, scenario=here.lost)
    here.harm()
    score, records = here.tried("early: the site is back")
    striker.active = False
    assert score.outcome == "recovered", striker.said
    for scenario, one in ((here.lost, here.failover), (SCENARIO, score)):
        assert undisturbed(here.records.read(one.incident)) == set()
        record_property("survived", striker.told("artist-tech", scenario))
    result = here._result(score, (), 0.0)
    assert result.problems == []
    assert [fact for fact in result.facts if fact.met is False] == []
    outputs = done(records)
    # What the lost site committed after its last copy is counted, written down and kept.
    assert outputs["compare"]["rows"] > 0
    assert outputs["bring-files"]["files"] == UPLOADS + 2
    assert "-full" in outputs["protect"]["backup"]
    assert "-dump" in outputs["protect-redis"]["backup"]
    rights = result.rights
    assert {name: it.denied for name, it in rights.items() if it.denied} == {}
    assert set(rights["leeward-standby-fail_back"].unused) <= {"dynamodb:DeleteItem"}
