"""A drill of a server's failure acts on what stands in for it, and takes back all that it did."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest

from leeward.local.drill import DrillOptions
from leeward.local.ledger import read_ledger
from leeward.local.production import SUPERUSER, Production, store_secrets
from leeward.local.sample_app import create_schema
from leeward.local.stages.artist import LEDGER, ServerDrill
from leeward.plan_file import load_plan
from tests.commands import ARTIST
from tests.scenarios.other_run import held_by_another
from tests.survived import survived

SCENARIO = "server-failure"
# What grows while the application works.
LIVE = ("var/log", "var/lib", "run")


class Standing(ServerDrill):
    """With a second database and a second server, which stand in."""

    def start_parts(self, stack: ExitStack, deploying: Future[None]) -> None:
        super().start_parts(stack, deploying)
        found = self.plan.components["artist-db-drill"]
        assert found.kind == "postgres"
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

    def instances(self) -> dict[str, Any]:
        """State, groups and name of every instance."""
        answer = self.cloud.client("ec2").describe_instances()
        return {
            it["InstanceId"]: (
                it["State"]["Name"],
                [group["GroupId"] for group in it["SecurityGroups"]],
                [tag["Value"] for tag in it["Tags"] if tag["Key"] == "Name"],
            )
            for part in answer["Reservations"]
            for it in part["Instances"]
        }

    def production_as_it_is(self) -> dict[str, Any]:
        """Everything that a drill must leave alone."""
        secrets = self.cloud.client("secretsmanager")
        names = (self.database.application_secret, "artisttech/redis")
        targets = self.cloud.client("elbv2").describe_target_health(
            TargetGroupArn=self.server.target_group
        )["TargetHealthDescriptions"]
        return {
            "instance": self.instances()[self.host],
            "targets": [it["Target"]["Id"] for it in targets],
            "secrets": [secrets.get_secret_value(SecretId=it)["SecretString"] for it in names],
            "files": digest_of(self.cloud.hosts.root(self.host)),
        }


def digest_of(root: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(root.rglob("*")):
        name = str(file.relative_to(root))
        if file.is_file() and not name.startswith(LIVE):
            digest.update(name.encode() + file.read_bytes())
    return digest.hexdigest()


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


def test_a_drill_leaves_production_as_it_was(drilled: Standing) -> None:
    before, all_before = drilled.production_as_it_is(), drilled.instances()
    incident = drilled.declare("the quarterly drill", drill=True)
    score = drilled.follow(incident)
    records = drilled.records.read(incident)
    failed = [it.body for it in records if it.kind in ("step-failed", "undo-failed")]
    assert (score.outcome, failed) == ("recovered", []), failed
    assert score.proven

    assert drilled.production_as_it_is() == before
    done = {it.step: it.body["outputs"] for it in records if it.kind == "step-finished"}
    assert done["isolate"]["instance"] == drilled.stand_in
    launched = done["provision"]["instance"]
    after = drilled.instances()
    assert after.pop(launched)[0] == "terminated"
    assert after == all_before
    undone = [it.step for it in records if it.kind == "step-undone"]
    assert undone == ["update-dns", "isolate", "provision"]
    # Its application wrote, and not to production: what is there is what production's was told.
    with psycopg.connect(drilled.second.dsn(SUPERUSER)) as connection:
        [(written,)] = connection.execute("SELECT count(*) FROM assets").fetchall()
    assert written > 400
    drilled.run_on_host("systemctl stop artisttech")
    told = len(read_ledger(drilled.cloud.hosts.root(drilled.host) / LEDGER))
    with psycopg.connect(drilled.production.dsn(SUPERUSER)) as connection:
        [(rows,)] = connection.execute("SELECT count(*) FROM assets").fetchall()
    assert rows == 4 * drilled.options.projects + told


def test_no_second_server_is_made_while_another_run_makes_one(
    drilled: Standing, record_property: Callable[[str, object], None]
) -> None:
    before, all_before = drilled.production_as_it_is(), drilled.instances()
    with held_by_another(drilled.state(), "app-server-drill") as other:
        incident = drilled.declare("a drill at the same time", drill=True)
        score = drilled.follow(incident)
    assert score.outcome == "failed"
    records = drilled.records.read(incident)
    [failed] = [it for it in records if it.kind == "step-failed"]
    assert (failed.step, failed.body["code"]) == ("provision", "fenced")
    assert failed.body["context"]["holder"] == other
    assert "start this one again" in failed.body["hint"]
    assert (drilled.production_as_it_is(), drilled.instances()) == (before, all_before)
    record_property("survived", survived("artist-tech", SCENARIO, "two at once", 1))
