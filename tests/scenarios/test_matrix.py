"""Every scenario under faults: a worker killed at each step, and the start of it told twice.

How many faults each scenario survived is printed at the end of the tests (tests/conftest.py).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from leeward.commands.drill import load_runnable
from leeward.local.drill import DrillOptions
from tests.scenarios.drills import PARTIAL
from tests.scenarios.striker import Striker, undisturbed
from tests.scenarios.test_faults import read_records

PLANS = Path(__file__).parents[2] / "policies" / "plans"
# Where a stage is there already, the deaths are in its own tests: database corruption of Nexus in
# test_faults.py (two a step), its regional outage and failback in test_failback.py, Artist Tech's
# server in test_artist_faults.py, its data-centre disaster and failback in test_artist_failback.py.
SCENARIOS = (
    ("nexus-studio", "accidental-deletion"),
    ("nexus-studio", "ransomware"),
    ("nexus-studio", "data-center-loss"),
    ("artist-tech", "database-corruption"),
    ("artist-tech", "infrastructure-failure"),
)
# What they end with when nobody dies.
PROBLEMS = {"data-center-loss": PARTIAL}


@pytest.mark.parametrize(("plan_name", "scenario"), SCENARIOS, ids=lambda it: str(it))
def test_a_death_at_every_step_changes_nothing_of_the_end(
    plan_name: str,
    scenario: str,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    plan, stage = load_runnable(PLANS / f"{plan_name}.yaml", scenario)
    striker = Striker()
    options = DrillOptions(
        scenario,
        plan.scenarios[scenario].component or "",
        stage.damages[0],
        tmp_path,
        projects=500,
        rate=30,
    )
    drill = striker.drill = stage(plan, options, striker.hear)
    result = drill.run()
    assert result.problems == PROBLEMS.get(scenario, []), striker.said
    assert {step.outcome for step in result.score.steps} == {"ok"}
    assert undisturbed(read_records(result.folder)) == set()
    record_property("survived", striker.told(plan_name, scenario))
