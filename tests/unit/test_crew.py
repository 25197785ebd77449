"""The people of a drill hold every role, and change nothing else of the plan."""

from __future__ import annotations

from pathlib import Path

import pytest

from chalicelib.plan.model import Plan
from leeward.local.crew import crew_of, with_crew
from leeward.plan_file import load_plan

PLANS = Path(__file__).parents[2] / "policies" / "plans"


@pytest.mark.parametrize("name", ["nexus-studio", "artist-tech"])
def test_whoever_is_asked_somebody_of_the_drill_may_answer(name: str) -> None:
    plan = load_plan(PLANS / f"{name}.yaml").plan
    manned, crew = with_crew(plan), crew_of(plan)
    for scenario in manned.scenarios.values():
        for step in scenario.all_steps():
            for role in (*(step.approve.by if step.approve else ()), *filter(None, (step.by,))):
                assert set(crew) <= set(manned.roles[role].held_by)
            assert not step.approve or step.approve.count <= len(crew)
    assert all(set(plan.roles[it].held_by) <= set(manned.roles[it].held_by) for it in plan.roles)


def test_nobody_else_is_told_and_nothing_else_changes() -> None:
    plan = load_plan(PLANS / "nexus-studio.yaml").plan
    data, before = with_crew(plan).to_json(), plan.to_json()
    for name in crew_of(plan):
        assert "reach" not in data["contacts"].pop(name)
    for role in data["roles"].values():
        role["held_by"] = [it for it in role["held_by"] if not it.startswith("drill-")]
        if not role["held_by"]:
            role.pop("held_by")
    assert Plan.from_json(data) == Plan.from_json(before)
