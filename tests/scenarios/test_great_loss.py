"""The steps of a great loss, by the deployed package in the standby region, with the primary gone.

A plan of these steps alone: assess, decide the scope, make the site, write down the way back, open
the analysis. Region us-east-1 hangs: no call to it comes back.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest

from chalicelib.evidence.scorecard import score_run
from chalicelib.plan.model import Plan
from chalicelib.plan.records import EvidenceRecord
from leeward.local.cloud import PRIMARY_REGION, STANDBY_REGION
from leeward.local.drill import Drill, DrillOptions
from leeward.local.infrastructure import create_projects
from leeward.local.locations import create_application_buckets
from leeward.local.production import Production, store_secrets
from leeward.local.runner import Call
from leeward.plan_file import load_plan
from tests.clouds import wait_for
from tests.scenarios.drills import PLAN
from tests.scenarios.other_run import held_by_another
from tests.survived import survived

SCENARIO = "data-center-loss"
STEPS: list[dict[str, Any]] = [
    {"name": "assess", "says": "Assess damage", "uses": "infrastructure.assess"},
    {
        "name": "scope",
        "says": "Determine recovery scope",
        "uses": "infrastructure.decide-scope",
        "with": {"scope": "${assess.scope}", "answer": "-nexus-static"},
    },
    {
        "name": "provision",
        "says": "Provision infrastructure",
        "uses": "infrastructure.provision",
        "with": {"component": "site-made"},
    },
    {"name": "way-back", "says": "Plan the way back", "uses": "failback.plan"},
    {"name": "analyse", "says": "Begin root cause analysis", "uses": "analysis.open"},
]
SITE: dict[str, Any] = {
    "kind": "infrastructure",
    "site": "dr",
    "project": "nexus-terraform",
    "variables": {"region": "us-west-2", "environment": "dr"},
    "outputs": "s3://nexus-terraform-state/outputs",
}


FALSE_ALARM = "false-alarm"


def small_plan() -> Plan:
    data = load_plan(PLAN).plan.to_json()
    data["components"] |= {
        "site-made": SITE | {"stand_ins": {"drill": "site-drill"}},
        "site-drill": SITE,
    }
    del data["components"]["nexus-uploads"]["health"]
    scenario = data["scenarios"][SCENARIO] | {"steps": STEPS}
    nothing_lost = scenario | {"restores": ["nexus-db", "nexus-uploads"], "steps": STEPS[:1]}
    only = {"scenarios": {SCENARIO: scenario, FALSE_ALARM: nothing_lost}}
    return Plan.from_json(data | only | {"testing": [], "verification": []})


class Stage(Drill):
    """The cloud, both stacks, production with one backup; nothing is damaged by itself."""

    def start_parts(self, stack: ExitStack, deploying: Future[None]) -> None:
        self.production = Production(self.cloud.folder / "production", self.cloud.reaper)
        stack.callback(self.production.stop)
        self.production.start()
        deploying.result()
        database = self.plan.components["nexus-db"]
        assert database.kind == "postgres"
        for region in (PRIMARY_REGION, STANDBY_REGION):
            store_secrets(
                self.cloud.client("secretsmanager", region),
                self.production,
                operator=database.operator_secret,
                application=database.application_secret,
            )
        create_application_buckets(self.cloud, self.plan)
        create_projects(self.cloud, self.plan)

    def run_here(self, *, drill: bool) -> tuple[str, list[EvidenceRecord]]:
        incident = self.declare("the region does not answer", drill=drill)
        self.follow(incident)
        records = self.records.read(incident)
        # After a drill that failed the next one is of the same incident.
        run = [it.run_id for it in records if it.kind == "run-finished"][-1]
        return incident, [it for it in records if it.run_id in (run, "")]

    def page(self, key: str) -> str:
        return self.evidence.get(key).decode()

    def builds(self) -> list[str]:
        client = self.cloud.client("codebuild", STANDBY_REGION)
        return list(client.list_builds_for_project(projectName="nexus-terraform")["ids"])

    def states(self) -> set[str]:
        """Terraform's workspaces that have a state."""
        client = self.cloud.client("s3", STANDBY_REGION)
        listed = client.list_objects_v2(Bucket="nexus-terraform-state", Prefix="env:/")
        return {it["Key"].split("/")[1] for it in listed.get("Contents", ())}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    options = DrillOptions(SCENARIO, "", "", tmp_path_factory.mktemp("great-loss"))
    made = Stage(small_plan(), options, lambda told: None)
    with ExitStack() as stack:
        made.set_stage(stack)
        made.prepare()
        yield made


def outputs(records: list[EvidenceRecord], step: str) -> dict[str, Any]:
    [found] = [it for it in records if it.kind == "step-finished" and it.step == step]
    return dict(found.body["outputs"])


ENDED = {"outcome": "partial", "why": "not recovered: nexus-uploads"}


def ended(records: list[EvidenceRecord]) -> dict[str, Any]:
    [found] = [it for it in records if it.kind == "run-finished"]
    return found.body


def test_a_drill_makes_a_site_of_its_own_and_leaves_none(here: Stage) -> None:
    _, records = here.run_here(drill=True)
    assert ended(records) == ENDED
    assert outputs(records, "provision")["workspace"].startswith("drill-")
    assert here.states() == set()
    undone = [it.body["found"] for it in records if it.kind == "step-undone"]
    assert any("is destroyed" in it for it in undone)


def test_a_real_run_finds_its_way_while_the_primary_region_hangs(here: Stage) -> None:
    fault = here.cloud.fail(region=PRIMARY_REGION, how="hang")
    before = len(here.builds())
    killing = threading.Thread(target=kill_while_building, args=(here, before))
    killing.start()
    try:
        incident, records = here.run_here(drill=False)
    finally:
        here.cloud.heal(fault)
    killing.join()
    assert ended(records) == ENDED
    scope = outputs(records, "scope")["scope"]
    assert {"nexus-uploads", "nexus-api", "nexus-dns"} <= set(scope)
    assert "nexus-static" in outputs(records, "assess")["scope"]
    assert "nexus-static" not in scope
    assert outputs(records, "provision")["outputs"]["environment"] == "dr"
    assert here.states() == {"dr"}
    attempts = [it for it in records if it.kind == "step-started" and it.step == "provision"]
    assert len(attempts) == 2, "the worker was to be killed while its build ran"
    assert len(here.builds()) == before + 1
    page = here.page(outputs(records, "assess")["object"])
    assert "silence counts as lost" in page
    run = f"run-{incident.removeprefix('inc-')}"
    way_back = json.loads(here.page(f"{incident}/failback-{run}.json"))
    assert way_back["returns"][-1]["component"] == "nexus-dns"
    assert "Root cause: data-center-loss" in here.page(outputs(records, "analyse")["object"])


def kill_while_building(here: Stage, builds_before: int) -> None:
    wait_for(lambda: len(here.builds()) > builds_before, "no build was started", seconds=120)
    here.cloud.kill_worker("provision")


def test_no_site_is_made_twice_at_once(
    here: Stage, record_property: Callable[[str, object], None]
) -> None:
    """The second run says which one makes it, and builds nothing."""
    states = here.states()
    with held_by_another(here.state(), "site-drill") as other:
        _, records = here.run_here(drill=True)
    assert ended(records)["outcome"] == "failed"
    [failed] = [it for it in records if it.kind == "step-failed"]
    assert (failed.step, failed.body["code"]) == ("provision", "fenced")
    assert failed.body["context"]["holder"] == other
    assert "start this one again" in failed.body["hint"]
    assert [it for it in records if it.kind == "undo-failed"] == []
    assert [it for it in records if "terraform apply" in str(it.body)] == []
    assert here.states() == states
    record_property("survived", survived("nexus-studio", SCENARIO, "two at once", 1))


def test_what_no_clean_up_could_take_back_is_named_loudly(here: Stage) -> None:
    """Its worker dies at every attempt, so that it can say nothing itself."""
    states, undos = here.states(), []

    def strikes(call: Call, event: Any) -> bool:
        if event.get("undo"):
            undos.append(event)
        return bool(event.get("undo"))

    here.cloud.strike(strikes)
    incident, records = here.run_here(drill=True)
    here.cloud.strike(lambda *_: False)
    assert ended(records)["outcome"] == "failed"
    assert "LEFT BEHIND, to be removed by a person: provision" in ended(records)["why"]
    [left] = [it.body for it in records if it.kind == "left-behind"]
    assert left["left"] == "provision"
    assert left["what"].startswith("infrastructure.provision on site-drill: no attempt")
    [workspace] = here.states() - states
    assert workspace in left["what"]
    assert "terraform destroy in the workspace" in left["how"]
    score = score_run(incident, records)
    assert any(it.startswith("left behind: provision: ") for it in score.shortfalls)
    assert "Remove what the drill's step provision left" in here.page(f"{incident}/report.md")
    # And what is named is all that is left: taken back, the drill was never there.
    assert "is destroyed" in here.invoke("provision", undos[0])["found"]
    assert here.states() == states


def test_a_real_run_stops_where_nothing_is_lost(
    here: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(here, "options", replace(here.options, scenario=FALSE_ALARM))
    _, records = here.run_here(drill=False)
    assert ended(records)["outcome"] == "failed"
    [failed] = [it.body for it in records if it.kind == "step-failed"]
    assert failed["code"] == "nothing-is-lost"


def test_the_rights_are_those_that_are_needed(here: Stage) -> None:
    """Servers of other plans are asked with rights that this one does not need; GetItem also tells
    two attempts at once which of them came first."""
    rights = here.cloud.rights()
    assert {name: it.denied for name, it in rights.items() if it.denied} == {}
    provision = set(rights["leeward-standby-provision"].unused)
    assert provision <= {"logs:GetLogEvents"}
    others = {"ec2:DescribeInstances", "ssm:DescribeInstanceInformation", "dynamodb:GetItem"}
    assert set(rights["leeward-standby-assess"].unused) <= others
