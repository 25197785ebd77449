"""The way back after a failover by the deployed package, from a region that came back old.

Refused while the region fails, while the failover is young, and when everything is home; in between
it brings every row home, and keeps what the region committed and nobody else had.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from chalicelib.plan.records import EvidenceRecord
from leeward.commands.drill import load_runnable
from leeward.local.drill import DrillOptions
from leeward.local.stages.failback import FailbackDrill
from tests.scenarios.drills import PLAN

SCENARIO = "failback"


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FailbackDrill]:
    plan, stage = load_runnable(PLAN, SCENARIO)
    assert stage is FailbackDrill
    out = tmp_path_factory.mktemp("failback")
    options = DrillOptions(SCENARIO, "", "region-refuses", out, projects=300, rate=30)
    made = FailbackDrill(plan, options, lambda told: None)
    with ExitStack() as stack:
        made.set_stage(stack)
        made.prepare()
        made.lose()
        made.take_over()
        yield made


def tried(here: FailbackDrill, reason: str) -> tuple[str, list[EvidenceRecord]]:
    """The outcome of a failback, and the records of its run."""
    incident = here.declare(reason)
    score = here.follow(incident)
    assert score.outcome is not None
    return score.outcome, [it for it in here.records.read(incident) if it.run_id == score.run_id]


def refusal(here: FailbackDrill, reason: str) -> str:
    """Why it was refused, by its code; nothing was changed."""
    before = here.led_to(), here.clusters.of("nexus-api-dr").pods()
    outcome, records = tried(here, reason)
    assert outcome == "failed"
    assert {it.step for it in records if it.kind == "step-finished"} == set()
    assert (here.led_to(), here.clusters.of("nexus-api-dr").pods()) == before
    [failed] = [it.body for it in records if it.kind == "step-failed"]
    assert failed["hint"]
    return f"{failed['code']}"


def test_a_region_that_still_fails_is_not_gone_back_to(here: FailbackDrill) -> None:
    assert refusal(here, "early: too early") == "primary-still-failing"


def test_a_failover_is_not_taken_back_at_once(here: FailbackDrill) -> None:
    here.come_back()
    assert refusal(here, "it is back, is it not") == "failed-over-lately"


def test_everything_goes_home_and_nothing_is_lost(here: FailbackDrill) -> None:
    old = here.home_database()
    incident = here.notice()
    score = here.follow(incident)
    records = [it for it in here.records.read(incident) if it.run_id == score.run_id]
    failed = [f"{it.step}: {it.body['message']}" for it in records if it.kind == "step-failed"]
    assert failed == []
    result = here._result(score, (), 0.0)
    assert result.problems == []
    facts = {fact.name: fact for fact in result.facts}
    assert [fact for fact in result.facts if fact.met is False] == []
    done = {it.step: it.body["outputs"] for it in records if it.kind == "step-finished"}
    # What the region wrote after it came back is counted, written down and kept.
    assert done["compare"]["rows"] > 0
    assert not done["compare"]["nothing"]
    lines = here.evidence.get(done["compare"]["object"]).splitlines()
    assert len(lines) == done["compare"]["rows"]
    assert json.loads(lines[0])["table"].startswith("public.")
    assert facts["set aside, kept at home"].measured != "0 rows"
    assert here.home_database() != old
    # It is protected again, by the primary stack, and a failover may be decided again.
    assert "-full" in done["protect"]["backup"]
    assert done["protect"]["released"]
    rights = result.rights["leeward-standby-fail_back"]
    assert not rights.denied
    assert not rights.unused


def test_nobody_goes_back_twice(here: FailbackDrill) -> None:
    assert refusal(here, "early: once more") == "already-home"
