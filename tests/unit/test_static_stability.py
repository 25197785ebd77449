"""The regional outage needs neither the region that is lost nor any control plane."""

from __future__ import annotations

from pathlib import Path

import pytest

from chalicelib.plan.model import Plan
from chalicelib.scenarios.explain import explain_scenario
from chalicelib.scenarios.stability import check_stability, region_of
from chalicelib.scenarios.steps import STEP_KINDS
from leeward.plan_file import load_plan

PLAN = Path(__file__).parents[2] / "policies/plans/nexus-studio.yaml"
OUTAGE = "regional-outage"


@pytest.fixture(scope="module")
def plan() -> Plan:
    return load_plan(PLAN).plan


def used(plan: Plan) -> list[str]:
    return [step.uses for step in plan.scenarios[OUTAGE].all_steps() if step.uses]


def test_it_needs_nothing_of_the_lost_region_and_no_control_plane(plan: Plan) -> None:
    assert len(used(plan)) == len(list(plan.scenarios[OUTAGE].all_steps()))
    for uses in used(plan):
        for item in STEP_KINDS[uses].depends:
            where = region_of(plan, item, "us-west-2")
            assert item.plane == "data", f"{uses} needs {item}"
            assert where in ("us-west-2", None), f"{uses} needs {item}"
    found = [it for it in check_stability(plan) if OUTAGE in it.path]
    assert found == []


def test_explain_tells_so_too(plan: Plan) -> None:
    for step in explain_scenario(plan, OUTAGE).steps:
        assert step.needs
        for need in step.needs:
            assert "us-east-1" not in need
            assert "control" not in need


@pytest.mark.parametrize(
    ("uses", "rules"),
    [
        ("names.change-records", {"LW107"}),
        ("infrastructure.provision", {"LW108"}),
    ],
)
def test_a_step_that_does_is_found(plan: Plan, uses: str, rules: set[str]) -> None:
    data = plan.to_json()
    steps = data["scenarios"][OUTAGE]["steps"]
    [names] = [step for step in steps if step["uses"] == "names.switch"]
    names["uses"] = uses
    broken = Plan.from_json(data)
    assert {it.rule for it in check_stability(broken) if OUTAGE in it.path} == rules


def test_what_is_lost_and_has_no_stand_in_is_found(plan: Plan) -> None:
    data = plan.to_json()
    del data["components"]["nexus-db"]["stand_ins"]["dr"]
    found = [it for it in check_stability(Plan.from_json(data)) if OUTAGE in it.path]
    assert {it.rule for it in found} == {"LW109"}
    assert "nexus-db, which is at primary and has no stand-in at dr" in found[0].message


def test_the_outage_starts_by_a_quorum_of_signals(plan: Plan) -> None:
    trigger = plan.scenarios[OUTAGE].trigger
    assert trigger is not None
    assert trigger.quorum == 2
    assert trigger.of == ("probe", "heartbeat", "aws-health")
