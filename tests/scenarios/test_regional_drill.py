"""The exercise `failover-monthly` of Nexus: the regional failover, as a drill on stand-ins."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest

from leeward.commands.drill import load_runnable
from leeward.local.drill import DrillOptions
from leeward.local.production import SUPERUSER
from leeward.local.stages.outage import OutageDrill
from tests.clouds import wait_for
from tests.scenarios.drills import PARTIAL, PLAN
from tests.scenarios.untouched import state_of

SCENARIO = "regional-outage"
EXERCISE = "failover-monthly"


class Stage(OutageDrill):
    """The stage of `leeward drill regional-outage`, before anything is lost."""

    def production_state(self) -> Any:
        """All of it but the rows that the application goes on writing."""
        with psycopg.connect(self.home.dsn(SUPERUSER)) as connection:
            roles = connection.execute("SELECT rolname, rolcanlogin FROM pg_roles ORDER BY 1")
            databases = connection.execute("SELECT datname FROM pg_database ORDER BY 1")
            server = [*roles.fetchall(), *databases.fetchall()]
        deployments = [
            it["spec"]
            for name in ("nexus-api", "nexus-api-dr")
            for it in self.clusters.of(name).objects.list("apps/v1", "deployments")
        ]
        return state_of(self.cloud, self.plan, self.spare), server, deployments

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


def test_the_failover_is_exercised_and_production_stays_as_it_was(here: Stage) -> None:
    before = here.production_state()
    here.invoke("exercise", {})
    here.invoke("exercise", {"begin": EXERCISE})

    def over() -> dict[str, Any] | None:
        here.invoke("exercise", {})
        occasions = here.standing()["occasions"]
        return occasions[-1] if occasions and occasions[-1]["ended_at"] else None

    occasion = wait_for(over, f"{EXERCISE} did not end", seconds=240)
    [result] = occasion["results"]
    records = here.records.read(result["incident"])
    wrong = [
        (it.step, it.body["message"]) for it in records if it.kind in ("step-failed", "undo-failed")
    ]
    assert wrong == []
    # What the plan cannot bring back makes the exercise a failed one, and nothing else does.
    assert (occasion["status"], result["shortfalls"]) == ("failed", PARTIAL[1:])
    assert here.production_state() == before
    undone = {it.step for it in records if it.kind == "step-undone"}
    assert {"fence", "load", "open-database", "start", "update-dns"} <= undone
