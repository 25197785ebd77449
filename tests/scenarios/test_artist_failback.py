"""Artist Tech: a lost site and the way back as drills on stand-ins, then the way back for real.

For real the worker of each step dies once, also of those that took over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
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
from tests.scenarios.other_run import held_by_another
from tests.scenarios.striker import Striker, undisturbed
from tests.scenarios.untouched import Declining, State, Untouched, drill_of, state_of
from tests.scenarios.untouched_machines import still, unit_of

SCENARIO = "failback"
AT_HOME, AWAY = "artist-db-drill", "artist-db-secondary-drill"


class Standing(Declining, ArtistFailbackDrill):
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

    def everything(self) -> State:
        """Production at both sites, and what of it is there to be read."""
        return state_of(
            self.cloud, self.plan, self.production, self.spare, hosts=[self.host], caches=["redis"]
        )

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Production's application holds its breath."""
        with still([unit_of(self.cloud, self.host, "artisttech")]):
            yield

    def tried(
        self, reason: str, *, scenario: str = SCENARIO, drill: bool = False
    ) -> tuple[Scorecard, list[EvidenceRecord]]:
        self.options = replace(self.options, scenario=scenario)
        if drill:
            return drill_of(self, reason)
        incident = self.declare(reason)
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


def undone(records: list[EvidenceRecord]) -> set[str]:
    return {it.step for it in records if it.kind == "step-undone"}


@pytest.mark.untouched("artist-tech", SCENARIO, "drill")
def test_a_drill_of_the_way_back_leaves_no_trace(here: Standing, untouched: Untouched) -> None:
    servers = (here.drill_home, here.drill_away)
    databases = [databases_of(it) for it in servers]
    with here.quiet(), untouched(here, here.everything):
        score, records = here.tried("the yearly drill", drill=True)
        assert failures(records) == []
    assert (score.outcome, score.rpo_seconds) == ("recovered", 0)
    assert score.proven
    outputs = done(records)
    assert outputs["load"]["rows"] > 40 * 4
    assert outputs["bring-files"]["files"] == UPLOADS + 1
    assert outputs["bring-redis"]["keys"] == KEYS
    assert undone(records) == {
        "server", "isolate-old", "fence-home", "stop-secondary", "fence-secondary", "load",
        "open-home", "take-name", "names",
    }  # fmt: skip
    assert [databases_of(it) for it in servers] == databases
    wait_until(lambda: here.page(here.there).get("healthy"), "the stand-in is not as it was")


@pytest.mark.untouched("artist-tech", SCENARIO, "failed step")
def test_a_drill_of_the_way_back_is_taken_back_when_a_person_declines(
    here: Standing, untouched: Untouched
) -> None:
    servers = (here.drill_home, here.drill_away)
    databases = [databases_of(it) for it in servers]
    with here.quiet(), here.declining("decide"), untouched(here, here.everything):
        score, records = here.tried("a drill that is declined", drill=True)
    assert score.outcome == "failed"
    assert {it.step for it in records if it.kind == "undo-failed"} == set()
    assert undone(records) >= {"server", "isolate-old", "fence-home"}
    assert [databases_of(it) for it in servers] == databases


MADE = {"server", "hold-database", "load-database", "open-database"}


@pytest.mark.untouched("artist-tech", "infrastructure-failure", "drill")
def test_a_drill_of_a_complete_failure_makes_a_site_of_its_own(
    here: Standing, untouched: Untouched
) -> None:
    """At the site that would take over, whose own database and servers are left alone."""
    with here.quiet(), untouched(here, here.everything):
        score, records = here.tried(
            "the quarterly drill", scenario="infrastructure-failure", drill=True
        )
        assert failures(records) == []
    assert (score.outcome, score.serves) == ("recovered", True)
    assert undone(records) >= MADE | {"provision", "take-name"}


@pytest.mark.untouched("artist-tech", "data-center-disaster", "drill")
def test_a_drill_of_a_lost_data_center_moves_names_that_lead_nobody(
    here: Standing, untouched: Untouched
) -> None:
    with here.quiet(), untouched(here, here.everything):
        score, records = here.tried(
            "the quarterly drill", scenario="data-center-disaster", drill=True
        )
        assert failures(records) == []
    assert (score.outcome, score.serves) == ("recovered", True)
    assert undone(records) >= MADE | {"activate", "take-name", "update-dns"}


@pytest.mark.parametrize(
    ("scenario", "made"),
    [
        pytest.param(name, made, marks=pytest.mark.untouched("artist-tech", name, "failed step"))
        for name, made in (
            ("infrastructure-failure", "provision"),
            ("data-center-disaster", "activate"),
        )
    ],
)
def test_a_site_that_a_drill_made_is_destroyed_when_its_server_is_held(
    here: Standing, untouched: Untouched, scenario: str, made: str
) -> None:
    with (
        here.quiet(),
        held_by_another(here.state(), "app-server-secondary-drill"),
        untouched(here, here.everything),
    ):
        score, records = here.tried("its server is held", scenario=scenario, drill=True)
    assert score.outcome == "failed"
    assert [step for step, _ in failures(records)] == ["server"]
    assert undone(records) >= {made}


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
