"""Data-centre loss of Nexus by the deployed package: a drill, then the real loss.

The drill acts on stand-ins alone and leaves nothing. The real run recovers in the standby region
while the primary hangs, its database and cluster are gone, and other clouds alone have copies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest

from chalicelib.plan.records import EvidenceRecord
from leeward.commands.drill import load_runnable
from leeward.local.cloud import STANDBY_REGION
from leeward.local.drill import DrillOptions
from leeward.local.production import SUPERUSER
from leeward.local.stages.site_loss import SiteLossDrill
from tests.scenarios.drills import LOST_FOR_GOOD, PARTIAL, PLAN
from tests.scenarios.production_state import state_of
from tests.survived import survived

SCENARIO = "data-center-loss"


class Stage(SiteLossDrill):
    """The stage of `leeward drill data-center-loss`, whose acts are called one by one."""

    def chain(self, incident: str) -> list[EvidenceRecord]:
        return self.records.read(incident)

    def production_state(self) -> Any:
        """All of it but the rows that the application goes on writing, and what Terraform's builds
        leave beside its state: of that, which environments there are."""
        with psycopg.connect(self.home.dsn(SUPERUSER)) as connection:
            roles = connection.execute("SELECT rolname, rolcanlogin FROM pg_roles ORDER BY 1")
            databases = connection.execute("SELECT datname FROM pg_database ORDER BY 1")
            server = [*roles.fetchall(), *databases.fetchall()]
        cluster = self.clusters.of("nexus-api").objects
        deployments = [it["spec"] for it in cluster.list("apps/v1", "deployments")]
        state = state_of(self.cloud, self.plan)
        del state["objects"]["nexus-terraform-state"]
        return state | {
            "server": server,
            "deployments": deployments,
            "environments": self.workspaces(),
        }

    def workspaces(self) -> set[str]:
        client = self.cloud.client("s3", STANDBY_REGION)
        listed = client.list_objects_v2(Bucket="nexus-terraform-state", Prefix="env:/")
        return {it["Key"].split("/")[1] for it in listed.get("Contents", ())}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    plan, _ = load_runnable(PLAN, SCENARIO)
    out = tmp_path_factory.mktemp("data-center-loss")
    options = DrillOptions(SCENARIO, "", "region-hangs", out, projects=1000, rate=30)
    made = Stage(plan, options, lambda told: None)
    with ExitStack() as stack:
        made.set_stage(stack)
        made.prepare()
        yield made


def problems(records: list[EvidenceRecord]) -> list[str]:
    kinds = ("step-failed", "undo-failed")
    return [f"{it.step}: {it.body['message']}" for it in records if it.kind in kinds]


def test_a_drill_leaves_production_as_it_was(here: Stage) -> None:
    before = here.production_state()
    incident = here.declare("a drill", drill=True)
    score = here.follow(incident)
    assert problems(here.chain(incident)) == []
    assert (score.outcome, score.not_recovered) == ("partial", LOST_FOR_GOOD)
    after = here.production_state()
    assert {name for name in before if before[name] != after[name]} == set()
    undone = {it.step for it in here.chain(incident) if it.kind == "step-undone"}
    assert {"activate", "hold-database", "load", "open-database", "deploy", "update-dns"} <= undone


def test_the_loss_itself_is_recovered_within_the_promises(
    here: Stage, record_property: Callable[[str, object], None]
) -> None:
    here.harm()
    incident = here.notice()
    score = here.follow(incident)
    assert problems(here.chain(incident)) == []
    result = here._result(score, (), 0.0)
    assert result.problems == PARTIAL
    assert score.rto_met
    assert score.rpo_met
    assert here.workspaces() == {"dr"}
    record_property("survived", survived("nexus-studio", SCENARIO, "region lost", 1))
