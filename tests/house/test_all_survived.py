"""No scenario of a plan is without a fault of the table at the end of the tests.

Where each is tried is written down (tests/survived_where.py), and where one is not yet.
"""

from __future__ import annotations

import inspect
from importlib import import_module

import pytest

from leeward.plan_file import load_plan
from tests.commands import ARTIST, NEXUS
from tests.scenarios import test_matrix
from tests.survived import FAULTS
from tests.survived_where import MATRIX, WHERE, Cell, Senseless

PLANS = [load_plan(file).plan for file in (NEXUS, ARTIST)]
# Of drills alone.
UNDOS = "undos killed"


def cells() -> list[tuple[str, str, str, Cell]]:
    return [
        (plan, scenario, fault, cell)
        for plan, scenarios in WHERE.items()
        for scenario, faults in scenarios.items()
        for fault, cell in faults.items()
    ]


def test_every_scenario_of_every_plan_stands_there_with_every_fault() -> None:
    owed = {
        (plan.name, scenario, fault)
        for plan in PLANS
        for scenario in plan.scenarios
        for fault in FAULTS
        if fault != UNDOS
    }
    assert {cell[:3] for cell in cells()} == owed


def test_no_step_of_a_scenario_is_without_deaths_and_each_gap_is_told() -> None:
    kept = [(fault, it) for *_, fault, it in cells() if not isinstance(it, str)]
    assert "workers killed" not in {fault for fault, _ in kept}
    assert all(it.why if isinstance(it, Senseless) else it.so_far for _, it in kept)


@pytest.mark.parametrize("place", sorted({it for *_, it in cells() if isinstance(it, str)}))
def test_what_is_named_is_a_test_that_tells_it(place: str) -> None:
    module, name = place.split("::")
    test = getattr(import_module(f"tests.scenarios.{module}"), name)
    source = inspect.getsource(test)
    for plan, scenario, fault, cell in cells():
        if cell != place:
            continue
        if fault != "no answer" and "striker.told(" in source:
            continue  # which asks for each fault that is written down for its test
        assert f'"{fault}"' in source, (plan, scenario, fault)


def test_the_matrix_has_the_scenarios_that_it_is_named_for() -> None:
    for fault in ("workers killed", "ends killed"):
        named = {(plan, name) for plan, name, told, it in cells() if (told, it) == (fault, MATRIX)}
        assert named == set(test_matrix.SCENARIOS)
