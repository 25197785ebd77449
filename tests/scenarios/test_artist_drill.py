"""Drills of Artist Tech at its primary site, a damaged database's and a lost server's, act on what
stands in and take back all that they did; production is afterwards what it was, byte for byte."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import psycopg
import pytest

from chalicelib.evidence.scorecard import Scorecard
from chalicelib.plan.components import Postgres
from chalicelib.plan.records import EvidenceRecord
from leeward.local.artisttech import set_up_host
from leeward.local.drill import DrillOptions
from leeward.local.production import SUPERUSER, Production, store_secrets
from leeward.local.sample_app import create_schema
from leeward.local.stages.artist import ServerDrill, wait_until
from leeward.plan_file import load_plan
from tests.commands import ARTIST
from tests.scenarios.other_run import held_by_another
from tests.scenarios.untouched import State, Untouched, changed, drill_of, state_of
from tests.scenarios.untouched_machines import still, unit_of
from tests.survived import survived

SCENARIO, DATABASE_SCENARIO = "server-failure", "database-corruption"
UNIT = "etc/systemd/system/artisttech.service"


class Standing(ServerDrill):
    """With a second database and a second server that serves from it, which stand in."""

    def start_parts(self, stack: ExitStack, deploying: Future[None]) -> None:
        super().start_parts(stack, deploying)
        found = self.plan.components["artist-db-drill"]
        assert isinstance(found, Postgres)
        self.second = Production(
            self.cloud.folder / "second",
            self.cloud.reaper,
            database=found.database,
            application=found.application_role,
        )
        stack.callback(self.second.stop)
        self.second.start()
        create_schema(self.second.dsn(found.application_role), projects=100)
        store_secrets(
            self.cloud.client("secretsmanager"),
            self.second,
            operator=found.operator_secret,
            application=found.application_secret,
        )
        self.stand_in = self.launch("app-server-drill")
        set_up_host(
            self.cloud.hosts.root(self.stand_in),
            self.repository,
            self.revision,
            secret=found.application_secret,
            password=self.password,
        )
        script = (
            "set -e; cd /opt/artisttech; npm run build; "
            "systemctl enable --now artisttech; systemctl start nginx"
        )
        status, _, errors = self.cloud.hosts.run(self.stand_in, script, limit_seconds=60)
        assert status == 0, errors
        self.wait_for_stand_in()

    def wait_for_stand_in(self) -> None:
        wait_until(
            lambda: self.page(self.stand_in).get("healthy"), "the stand-in does not serve", 120
        )

    def everything(self) -> State:
        return state_of(self.cloud, self.plan, self.production, hosts=[self.host], caches=["redis"])

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Production's application holds its breath."""
        with still([unit_of(self.cloud, self.host, "artisttech")]):
            yield

    def tried(self, scenario: str, reason: str) -> tuple[Scorecard, list[EvidenceRecord]]:
        self.options = replace(self.options, scenario=scenario)
        return drill_of(self, reason)

    @contextmanager
    def image_without_units(self) -> Iterator[None]:
        """A server that is launched now has no unit to start."""
        [image] = (self.cloud.folder / "images").iterdir()
        hidden = self.cloud.folder / "hidden.service"
        (image / UNIT).rename(hidden)
        try:
            yield
        finally:
            hidden.rename(image / UNIT)

    def rows(self) -> int:
        with psycopg.connect(self.second.dsn(SUPERUSER)) as connection:
            [(written,)] = connection.execute("SELECT count(*) FROM assets").fetchall()
        return int(written)


def databases_of(server: Production) -> list[str]:
    with psycopg.connect(server.dsn(SUPERUSER)) as connection:
        rows = connection.execute("SELECT datname FROM pg_database ORDER BY 1").fetchall()
    return [name for (name,) in rows]


def failures(records: list[EvidenceRecord]) -> list[tuple[str, str]]:
    kinds = ("step-failed", "undo-failed")
    return [(it.step, it.body["message"]) for it in records if it.kind in kinds]


def undone(records: list[EvidenceRecord]) -> list[str]:
    return [it.step for it in records if it.kind == "step-undone"]


@pytest.fixture(scope="module")
def drilled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standing]:
    plan = load_plan(ARTIST).plan
    out = tmp_path_factory.mktemp("drill")
    options = DrillOptions(SCENARIO, "application", "none", out, projects=500)
    made = Standing(plan, options, lambda told: None)
    with ExitStack() as stack:
        made.set_stage(stack)
        made.prepare()
        yield made


@pytest.mark.untouched("artist-tech", DATABASE_SCENARIO, "drill")
def test_a_drill_of_a_damaged_database_fills_the_stand_in_alone(
    drilled: Standing, untouched: Untouched
) -> None:
    databases = databases_of(drilled.second)
    with drilled.quiet(), untouched(drilled, drilled.everything):
        score, records = drilled.tried(DATABASE_SCENARIO, "the quarterly drill")
        assert failures(records) == []
        assert score.outcome == "recovered"
        assert score.proven
    assert undone(records) == [
        "restart-services", "switch", "load", "stop-writes", "stop-services",
    ]  # fmt: skip
    assert databases_of(drilled.second) == databases
    drilled.wait_for_stand_in()


@pytest.mark.untouched("artist-tech", DATABASE_SCENARIO, "failed step")
def test_services_that_a_drill_stopped_run_again_when_its_database_is_held(
    drilled: Standing, untouched: Untouched
) -> None:
    databases = databases_of(drilled.second)
    with (
        drilled.quiet(),
        held_by_another(drilled.state(), "artist-db-drill"),
        untouched(drilled, drilled.everything),
    ):
        score, records = drilled.tried(DATABASE_SCENARIO, "its database is held")
        assert score.outcome == "failed"
    assert [step for step, _ in failures(records)] == ["stop-writes"]
    assert undone(records)[-1] == "stop-services"
    assert databases_of(drilled.second) == databases
    drilled.wait_for_stand_in()


@pytest.mark.untouched("artist-tech", SCENARIO, "drill")
def test_a_drill_leaves_production_as_it_was(drilled: Standing, untouched: Untouched) -> None:
    with drilled.quiet(), untouched(drilled, drilled.everything):
        written = drilled.rows()
        score, records = drilled.tried(SCENARIO, "the quarterly drill")
        assert failures(records) == []
        assert score.outcome == "recovered"
        assert score.proven
    done = {it.step: it.body["outputs"] for it in records if it.kind == "step-finished"}
    assert done["isolate"]["instance"] == drilled.stand_in
    assert done["provision"]["instance"] != drilled.stand_in
    assert undone(records) == ["update-dns", "isolate", "provision"]
    # Its application wrote, and not to production.
    assert drilled.rows() > written


@pytest.mark.untouched("artist-tech", SCENARIO, "failed step")
def test_a_drill_whose_server_does_not_start_ends_it_and_gives_the_other_back(
    drilled: Standing, untouched: Untouched
) -> None:
    with (
        drilled.quiet(),
        drilled.image_without_units(),
        untouched(drilled, drilled.everything),
    ):
        score, records = drilled.tried(SCENARIO, "its image is broken")
        assert score.outcome == "failed"
    assert [step for step, _ in failures(records)] == ["start"]
    assert undone(records) == ["isolate", "provision"]


def test_no_second_server_is_made_while_another_run_makes_one(
    drilled: Standing, record_property: Callable[[str, object], None]
) -> None:
    with drilled.quiet(), held_by_another(drilled.state(), "app-server-drill") as other:
        before = drilled.everything()
        score, records = drilled.tried(SCENARIO, "a drill at the same time")
        assert changed(drilled.plan, before, drilled.everything()) == []
    assert score.outcome == "failed"
    [failed] = [it for it in records if it.kind == "step-failed"]
    assert (failed.step, failed.body["code"]) == ("provision", "fenced")
    assert failed.body["context"]["holder"] == other
    assert "start this one again" in failed.body["hint"]
    record_property("survived", survived("artist-tech", SCENARIO, "two at once", 1))
