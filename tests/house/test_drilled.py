"""No scenario of a plan is without a drill that left production as it was, byte for byte.

Which test does a drill is told by its marks (tests/drilled.py); that it did is seen by what they
are given. What "production" means is in tests/scenarios/untouched.py.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path

from leeward.plan_file import load_plan
from tests.commands import ARTIST, NEXUS
from tests.drilled import HOW
from tests.scenarios.untouched_aws import NOT_STATE, OF_ACCOUNT, OF_REGION

TESTS = Path(__file__).parents[1]
POLICIES = TESTS.parent / "policies" / "iam"
READS = ("Get", "List", "Describe", "BatchGet", "Head")


def claims() -> set[tuple[str, ...]]:
    """(plan, scenario, how) of every mark."""
    modules = [
        importlib.import_module(f"tests.scenarios.{file.stem}")
        for file in sorted((TESTS / "scenarios").glob("test_*.py"))
    ]
    tests = [it for module in modules for name, it in vars(module).items() if name[:5] == "test_"]
    marks = [mark for test in tests for mark in getattr(test, "pytestmark", ())]
    parts = [one for mark in marks if mark.name == "parametrize" for one in mark.args[1]]
    marks += [mark for one in parts for mark in getattr(one, "marks", ())]
    return {tuple(mark.args) for mark in marks if mark.name == "untouched"}


def owed() -> set[tuple[str, ...]]:
    plans = [load_plan(file).plan for file in (NEXUS, ARTIST)]
    return {
        (plan.name, scenario, how) for plan in plans for scenario in plan.scenarios for how in HOW
    }


def test_every_scenario_is_drilled_with_production_compared_also_when_a_step_fails() -> None:
    assert len(owed()) == 22
    assert claims() == owed()


def test_everything_that_leeward_may_change_is_read_or_says_why_not() -> None:
    """What a role may do is in policies/iam; a new right must say where its effect is seen."""
    changes = {action for action in rights() if not action.partition(":")[2].startswith(READS)}
    assert len(changes) > 40
    seen = {it for it in changes if it.partition(":")[0] in {*OF_ACCOUNT, *OF_REGION}}
    assert changes - seen - set(NOT_STATE) == set()
    assert set(NOT_STATE) - changes == set()


def rights() -> set[str]:
    found: set[str] = set()
    for file in POLICIES.glob("*.json"):
        for statement in json.loads(file.read_text())["Statement"]:
            actions = statement["Action"]
            found |= {actions} if isinstance(actions, str) else set(actions)
    return found
