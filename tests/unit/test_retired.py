"""A component that no longer exists: its copies are kept, and nothing else is done with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from chalicelib.adapters.clock import SystemClock
from chalicelib.errors import PlanError, Refused
from chalicelib.plan.exercises import copied_components
from chalicelib.plan.model import Plan
from chalicelib.services import build
from chalicelib.services.jobs.databases import back_up, fetch_wal
from chalicelib.services.jobs.taking import take_point
from chalicelib.services.views.copies import protected, require_component
from leeward.packaging.buckets import replica_globals
from leeward.packaging.template import plan_resources
from leeward.plan_file import load_plan
from tests.commands import NEXUS, run
from tests.fakes import InMemoryObjectStore
from tests.unit.test_rules import SOUND, findings_of, plan_with

RETIRED = SOUND["components"]["db"] | {"retired": "2026-11-20"}


def with_retired(**more: Any) -> Plan:
    return plan_with({"components": {"db-16": RETIRED | more}})


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> Plan:
    found = with_retired()
    monkeypatch.setattr(build, "plan", lambda: found)
    return found


def test_no_rule_asks_for_what_only_the_living_need() -> None:
    [found] = findings_of(with_retired())
    assert (found.rule, found.path) == ("LW117", ("components", "db-16"))
    assert {it.rule for it in findings_of(with_retired(retired=None))} >= {"LW037", "LW039"}


@pytest.mark.parametrize("missing", [{"backups": []}, {"retention": None}])
def test_where_its_copies_lie_and_how_long_is_said(missing: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected `backups` and `retention`"):
        with_retired(**missing)


def test_nothing_in_the_plan_may_need_it(tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    data = yaml.safe_load(yaml.safe_dump(SOUND))
    data["components"]["db"]["retired"] = "2026-11-20"
    file.write_text(yaml.safe_dump(data, sort_keys=False))
    with pytest.raises(PlanError) as caught:
        load_plan(file)
    told = {
        ".".join(map(str, it["path"])): it["message"] for it in caught.value.context["problems"]
    }
    assert told["components.shop.depends_on.0"].endswith("'db', which is retired since 2026-11-20")
    assert "scenarios.corruption.component" in told


def names(plan: Plan, kind: str, key: str, start: str) -> set[str]:
    found = (it["Properties"] for it in plan_resources(plan).values() if it.get("Type") == kind)
    known = {it.get(key, "") for it in found}
    return {it.removeprefix(start) for it in known if it.startswith(start)}


def test_its_copies_are_made_checked_pruned_and_restored_and_nothing_else_runs() -> None:
    """No function restores a database that was left for a new major version: LW117 says so."""
    nexus = load_plan(NEXUS).plan.to_json()
    nexus["verification"].append({"kind": "spot-check", "says": "Draw one", "when": "daily"})
    for name in ("nexus-db", "nexus-uploads"):
        nexus["components"][name]["retired"] = "2026-11-20"
    plan = Plan.from_json(nexus)
    rules = {
        it.removeprefix("leeward-nexus-studio-nexus-")
        for it in names(plan, "AWS::Events::Rule", "Name", "")
        if "-nexus-db-" in it or "-nexus-uploads-" in it
    }
    of_the_bucket = {"uploads-prune", "uploads-check-primary", "uploads-prove-primary"}
    checks = {f"db-check-{place}" for place in ("primary", "secondary", "tertiary")}
    copies = {"db-copy-secondary", "db-copy-tertiary"}
    assert rules == checks | copies | {"db-prune"} | of_the_bucket
    alarms = names(plan, "AWS::CloudWatch::Alarm", "AlarmName", "nexus-db-")
    assert alarms.isdisjoint({"wal-silent", "full-silent", "watch-silent", "unproven-primary"})
    assert "check-primary-silent" in alarms
    # Its inventories are of what the replica holds.
    told = replica_globals(plan)["Function"]["Environment"]["Variables"]["LEEWARD_REPLICA_BUCKETS"]
    assert "nexus-uploads" in json.dumps(told)


@pytest.mark.parametrize(
    "act",
    [
        lambda: back_up("db-16", "full"),
        lambda: fetch_wal("db-16"),
        lambda: take_point(
            "db-16", build.plan().components["db-16"], InMemoryObjectStore(), None,  # type: ignore[arg-type]
            clock=SystemClock(), secret=lambda name: {},
        ),
    ],
)  # fmt: skip
def test_nothing_is_taken_of_it(plan: Plan, act: Callable[[], Any]) -> None:
    with pytest.raises(Refused) as caught:
        act()
    assert caught.value.instance_code == "retired"


def test_it_is_shown_and_restored_but_counts_for_no_readiness(plan: Plan) -> None:
    assert "db-16" not in protected()
    assert require_component("db-16").retired
    assert "db-16" not in copied_components(plan)


def test_none_of_its_schedules_is_played_through(tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    data = yaml.safe_load(yaml.safe_dump(SOUND))
    data["components"]["db-16"] = RETIRED
    file.write_text(yaml.safe_dump(data, sort_keys=False))
    played = run("prune", file, "--simulate", "30d", "--format", "json")
    assert [it["component"] for it in json.loads(played.stdout)["components"]] == ["db"]
    refused = run("prune", file, "--simulate", "30d", "--component", "db-16")
    assert (refused.returncode, "retired" in refused.stderr) == (1, True)
