"""The way back is a plan: complete, in an order that works, never soon and never by itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from chalicelib.plan.model import Plan
from chalicelib.recover.sites.way_back import ORDER, SOUND_FOR, WAYS, FailbackPlan, decide_way_back
from leeward.plan_file import load_plan

PLANS = Path(__file__).parents[2] / "policies/plans"
NOW = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)


def way(name: str, scenario: str, site: str, *, drill: bool = False) -> tuple[Plan, FailbackPlan]:
    plan = load_plan(PLANS / f"{name}.yaml").plan
    return plan, decide_way_back(plan, scenario, site=site, drill=drill, now=NOW)


CASES = [
    ("nexus-studio", "data-center-loss", "dr"),
    ("nexus-studio", "regional-outage", "dr"),
    ("artist-tech", "data-center-disaster", "secondary"),
    ("artist-tech", "infrastructure-failure", "secondary"),
]


@pytest.mark.parametrize(("name", "scenario", "site"), CASES)
def test_everything_that_moved_has_its_way_back(name: str, scenario: str, site: str) -> None:
    plan, made = way(name, scenario, site)
    names = [it.component for it in made.returns]
    restored = plan.scenarios[scenario].restored_components()
    assert sorted(names) == sorted(it for it in restored if plan.components[it].site != site)
    assert {it.kind for it in made.returns} <= set(WAYS)
    assert all(it.how and it.verified for it in made.returns)


@pytest.mark.parametrize(("name", "scenario", "site"), CASES)
def test_nothing_goes_back_before_what_it_waits_for(name: str, scenario: str, site: str) -> None:
    _, made = way(name, scenario, site)
    order = [it.component for it in made.returns]
    for it in made.returns:
        assert all(order.index(other) < order.index(it.component) for other in it.after)
    kinds = [it.kind for it in made.returns]
    assert "names" not in kinds or set(kinds[kinds.index("names") :]) == {"names"}


def test_what_stands_in_now_is_what_goes_back() -> None:
    _, made = way("nexus-studio", "data-center-loss", "dr")
    stands = {it.component: it.stands_in for it in made.returns}
    assert stands["nexus-db"] == "nexus-db-dr"
    assert stands["nexus-dns"] == "nexus-names"
    _, drill = way("nexus-studio", "data-center-loss", "dr", drill=True)
    assert {it.component: it.stands_in for it in drill.returns}["nexus-db"] == "nexus-db-dr-drill"


def test_the_window_is_at_night_and_after_a_day_without_a_fault() -> None:
    _, made = way("nexus-studio", "data-center-loss", "dr")
    assert made.not_before_at == NOW + SOUND_FOR
    assert made.window_begins_at == datetime(2026, 11, 24, 2, tzinfo=UTC)
    assert made.window_ends_at - made.window_begins_at == timedelta(hours=2)


def test_a_person_starts_it() -> None:
    _, made = way("nexus-studio", "data-center-loss", "dr")
    assert made.command.startswith("leeward failback")
    assert any("a person has chosen the window" in it for it in made.conditions)


def test_every_kind_of_component_has_a_way() -> None:
    assert set(ORDER) == set(WAYS)


def test_it_survives_json() -> None:
    _, made = way("nexus-studio", "data-center-loss", "dr")
    assert FailbackPlan.from_json(made.to_json()) == made
