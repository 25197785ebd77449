"""Artist Tech's primary site is lost as a whole: it is made anew at the secondary one."""

from __future__ import annotations

from pathlib import Path

from chalicelib.plan.records import EvidenceRecord
from leeward.commands.drill import load_runnable
from leeward.local.drill import DrillOptions, DrillResult, Told
from leeward.local.stages.great_loss import GreatLossDrill
from tests.commands import ARTIST

KEPT = {"uploads": True, "keys of Redis": True, "committed rows lost": True}


def run_drill(scenario: str, damage: str, out: Path) -> tuple[DrillResult, list[EvidenceRecord]]:
    plan, stage = load_runnable(ARTIST, scenario)
    assert stage is GreatLossDrill
    heard: list[Told] = []
    options = DrillOptions(scenario, "", damage, out, projects=500)
    result = stage(plan, options, heard.append).run()
    return result, [it.record for it in heard if it.record]


def found_by(records: list[EvidenceRecord], step: str) -> str:
    [found] = [it.body["found"] for it in records if it.kind == "step-finished" and it.step == step]
    return str(found)


def facts_of(result: DrillResult) -> dict[str, bool | None]:
    return {fact.name: fact.met for fact in result.facts}


def test_a_complete_failure_is_recovered_at_the_secondary_site(tmp_path: Path) -> None:
    result, records = run_drill("infrastructure-failure", "site-lost", tmp_path)
    assert result.problems == []
    assert result.score.ok, result.score.shortfalls
    assert facts_of(result) == KEPT
    assessed = found_by(records, "assess")
    assert "artist-db" in assessed
    assert "serving: nothing" in assessed
    assert "us-west-2" in found_by(records, "provision")
    # The secret there was a replica, which AWS lets nobody write to.
    assert "artisttech/redis leads there now" in found_by(records, "restore-redis")
    [moved] = [
        it.body["why"] for it in records if "artisttech/redis" in str(it.body.get("what", ""))
    ]
    assert "replicate that again" in moved
    # A lost source tells nobody what it wrote last: the run claims no more than it knows.
    assert "at least" in found_by(records, "replay-logs")


def test_a_lost_data_center_is_left_for_the_secondary_site(tmp_path: Path) -> None:
    result, records = run_drill("data-center-disaster", "site-lost", tmp_path)
    assert result.problems == []
    assert result.score.ok, result.score.shortfalls
    assert facts_of(result) == KEPT | {"names lead to": True}
    assert found_by(records, "plan-recovery")
