"""The messages of a scenario are seen before there is an incident."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chalicelib.plan.model import Plan
from leeward.plan_file import load_plan
from leeward.preview import preview_messages

PLANS = Path(__file__).parents[2] / "policies" / "plans"
BOTH = {name: load_plan(PLANS / f"{name}.yaml").plan for name in ("nexus-studio", "artist-tech")}
EVERY = [(plan, scenario) for plan in BOTH.values() for scenario in plan.scenarios]


@pytest.mark.parametrize(("plan", "scenario"), EVERY, ids=lambda it: getattr(it, "name", it))
def test_every_scenario_of_both_plans_can_be_told(plan: Plan, scenario: str) -> None:
    previews = preview_messages(plan, scenario)
    occasions = [it.when for it in previews]
    assert occasions[0] == "when the incident opens"
    assert "when it has recovered" in occasions
    for step in plan.scenarios[scenario].all_steps():
        if step.approve or step.by:
            assert f"before step {step.name}" in occasions
        if step.uses == "people.tell":
            assert f"step {step.name}" in occasions
    assert json.loads(json.dumps([it.to_json() for it in previews]))


@pytest.mark.parametrize(("plan", "scenario"), EVERY, ids=lambda it: getattr(it, "name", it))
def test_no_address_of_people_is_used_in_a_drill(plan: Plan, scenario: str) -> None:
    sides = plan.communication.sides()
    real = {it.address for _, channels in sides for it in channels.values() if it.address}
    real |= {address for it in plan.contacts.values() for address in it.reach.values()}
    for preview in preview_messages(plan, scenario):
        for line in preview.drill:
            assert not any(address in line for address in real), line


def test_the_lawyers_hear_of_ransomware_and_the_press_after_four_hours_alone() -> None:
    previews = preview_messages(BOTH["nexus-studio"], "ransomware")
    opened = {it.audience: it for it in previews if it.when == "when the incident opens"}
    assert set(opened) == {"internal", "press", "legal"}
    assert opened["press"].real == ("pr-agency: sms +1-xxx-xxx-xxxx, if it lasts 4:00:00",)
    ended = {it.audience for it in previews if it.when == "when it has recovered"}
    assert "legal" in ended
    assert "press" not in ended
    [late] = [it for it in previews if it.when == "when it has recovered after 4:00:00"]
    assert (late.audience, "resolved after 4 h" in late.text) == ("press", True)


@pytest.mark.parametrize("plan", BOTH.values(), ids=BOTH)
def test_every_occasion_has_its_words_in_the_preview_of_a_plan(plan: Plan) -> None:
    """All that anybody may be told: each branch of each template of those who hear of it."""
    words = [it for name in plan.scenarios for it in preview_messages(plan, name)]
    whens = {it.when for it in words}
    assert {"when the incident opens", "when a step fails", "when it has recovered",
            "when a person closes it"} <= whens  # fmt: skip
    assert any(it.startswith("before step ") for it in whens)
    assert any(it.endswith(" is answered") for it in whens)
    called = [it.text for it in words if it.when.startswith("when nobody answers")]
    assert bool(called) == bool(plan.escalation)
    assert all("leeward incident ack" in text for text in called)
